"""The suite for engines of remote services: what is paid, and what becomes of every failure of the service.

    class TestFailures(RemoteConformance):
        @pytest.fixture
        def service(self, acme: FakeAcme) -> FakeService:
            return acme

`FakeAcme` is a `FakeService` that plays the service. What the service does not have (polling, cancellation, downloads)
is skipped. Needs pytest and aiohttp.
"""

# ruff: noqa: S101 (a suite of tests)

from __future__ import annotations

import asyncio
import io
from contextlib import aclosing
from dataclasses import replace

import pytest
from PIL import Image

from atelier_engines.conformance.fake_server import (
    Handler,
    cut_short,
    drip,
    drop_connection,
    hang,
    respond,
    respond_bytes,
)
from atelier_engines.conformance.remote_service import (
    FakeService,
    collect_outputs,
    crash,
    run_engine,
    wait,
)
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineQuotaError,
    EngineTimeoutError,
    EngineUnavailableError,
    EngineUncertainError,
    InvalidTaskError,
)
from atelier_engines.event import Dispatched, Output, Stage
from atelier_engines.media import Encoded

_HTML = "<html>error"
_SEEDS = (3, 4, 5)
_WRONG_KEY = "a-wrong-id:and-a-secret"
_TIMEOUT_SECONDS = 0.2


def _png() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    return file.getvalue()


class _Fixtures:
    """The fixture to override."""

    @pytest.fixture
    def service(self) -> FakeService:
        """The fake service, reset."""
        raise NotImplementedError("override the fixture `service`")

    @pytest.fixture
    def resumable(self, service: FakeService) -> FakeService:
        """The service; skips those whose jobs cannot be found again after a restart."""
        if not service.resumable:
            pytest.skip("its jobs cannot be found again")
        return service

    @pytest.fixture
    def cancellable(self, service: FakeService) -> FakeService:
        """The service; skips those that cannot cancel jobs."""
        if not service.cancellable:
            pytest.skip("its jobs cannot be cancelled")
        return service

    @pytest.fixture
    def downloadable(self, service: FakeService) -> FakeService:
        """The service; skips those whose results are not downloaded."""
        if not service.downloadable:
            pytest.skip("its results are not downloaded")
        return service

    @pytest.fixture
    def running_job(self, service: FakeService) -> Handler:
        """Poll response for a running job; skips services whose jobs are not running."""
        if service.running is None:
            pytest.skip("its jobs are not running")
        return service.running


class SubmitConformance(_Fixtures):
    """Paid requests are sent again only when the service has not started them."""

    @pytest.mark.parametrize(
        "busy",
        [respond(429, {}), respond(429, {}, Retry_After="1"), respond(503, _HTML)],
        ids=["429", "retry-after", "503"],
    )
    def test_a_busy_service_is_retried_and_paid_once(
        self, service: FakeService, busy: Handler
    ) -> None:
        """Too many requests is not a failure."""
        service.submits.add(busy, busy)
        assert wait(collect_outputs(service))
        assert service.accepted == 1

    @pytest.mark.parametrize(
        ("status", "error", "message"),
        [
            (400, InvalidTaskError, "too small"),
            (401, EngineUnavailableError, "key"),
            (402, EngineQuotaError, "credit"),
            (403, EngineUnavailableError, "key"),
            (404, EngineFailedError, ""),
            (413, InvalidTaskError, "413"),
            (422, InvalidTaskError, "too small"),
        ],
    )
    def test_a_rejected_submission_is_not_repeated(
        self, service: FakeService, status: int, error: type[EngineError], message: str
    ) -> None:
        """The error has the message of the service."""
        if status in service.specific_statuses:
            pytest.skip("the service uses this status in its own way")
        service.submits.add(service.reject(status, "the image is too small"))
        with pytest.raises(error, match=message or None):
            wait(collect_outputs(service))
        assert service.accepted == 0, "the request was sent again"

    @pytest.mark.parametrize(
        ("response", "error", "message"),
        [
            (respond(429, {}, Retry_After="600"), EngineUnavailableError, "429"),
            (respond(500, _HTML), EngineUncertainError, "not sent again"),
            (respond(502, _HTML), EngineUncertainError, "not sent again"),
            (respond(504, _HTML), EngineUncertainError, "not sent again"),
            (drop_connection, EngineUncertainError, "not sent again"),
            (cut_short(b"{}" * 99, "application/json"), EngineUncertainError, "not sent again"),
            (respond(200, "<html>fine"), EngineUncertainError, "not sent again"),
        ],
        ids=range(7),
    )
    def test_a_failed_submission_is_not_repeated(
        self, service: FakeService, response: Handler, error: type[EngineError], message: str
    ) -> None:
        """What may have been accepted is uncertain."""
        service.submits.add(response)
        with pytest.raises(error, match=message):
            wait(collect_outputs(service))
        assert service.accepted == 0, "the request was sent again"

    def test_a_success_of_an_unknown_shape_is_uncertain(self, service: FakeService) -> None:
        """It may have been accepted, so it is not sent again."""
        service.submits.add(respond(200, {"unknown": "?"}))
        with pytest.raises(EngineUncertainError, match="not sent again"):
            wait(collect_outputs(service))
        assert service.accepted == 0

    def test_an_api_key_that_the_service_repeats_is_masked(self, service: FakeService) -> None:
        """Also each half of one with a colon."""
        if not service.api_key:
            pytest.skip("it has no API key")

        async def check() -> None:
            async with run_engine(service, api_key=_WRONG_KEY) as engine:
                await engine.check()

        with pytest.raises(EngineUnavailableError) as error:
            wait(check())
        assert service.rejected_key_message in str(error.value)
        assert "secret" not in str(error.value)


class RestartConformance(_Fixtures):
    """A new process continues with the handle alone, and pays nothing twice."""

    def test_the_handle_comes_before_the_first_poll(self, resumable: FakeService) -> None:
        """A process that dies while it waits has stored what finds the job; the handle holds no secret."""

        async def submit() -> str:
            async with run_engine(resumable) as engine:
                events = engine.run(resumable.task)
                assert await anext(events) == Stage(name="submit")
                dispatched = await anext(events)
                assert isinstance(dispatched, Dispatched)
                assert (resumable.accepted, resumable.polled) == (1, 0)
                await events.aclose()
            return dispatched.handle

        handle = wait(submit())
        assert not resumable.api_key or resumable.api_key not in handle

    def test_a_restart_finds_the_job_and_pays_nothing(self, resumable: FakeService) -> None:
        """The handle holds no secret."""
        handle = wait(crash(resumable))
        assert wait(collect_outputs(resumable, replace(resumable.task, resume=handle)))
        assert resumable.accepted == 1
        assert not resumable.api_key or resumable.api_key not in handle

    def test_a_restart_between_two_submissions_sends_only_what_is_missing(
        self, resumable: FakeService
    ) -> None:
        """Two of three jobs had been accepted."""
        task = replace(resumable.task, seeds=_SEEDS)
        handle = wait(crash(resumable, task, accepted=1 if resumable.batched else 2))
        outputs = wait(collect_outputs(resumable, replace(task, resume=handle)))
        assert [output.seed for output in outputs] == [*_SEEDS]
        assert resumable.accepted == len(_SEEDS)
        assert resumable.seeds in (None, [*_SEEDS])

    def test_a_restart_after_the_job_has_expired_says_that_it_is_lost(
        self, resumable: FakeService
    ) -> None:
        """It is not submitted again; neither is one with an invalid handle."""
        handle = wait(crash(resumable))
        resumable.forget_jobs()
        for resume in (handle, "no handle"):
            with pytest.raises(EngineFailedError, match="lost"):
                wait(collect_outputs(resumable, replace(resumable.task, resume=resume)))
        assert resumable.accepted == 0

    def test_a_restart_that_cannot_find_the_job_is_uncertain(self, service: FakeService) -> None:
        """That something will be sent is stored before it is sent."""
        if service.resumable:
            pytest.skip("its jobs are found again")

        async def stop_before_sending() -> str:
            async with run_engine(service) as engine, aclosing(engine.run(service.task)) as events:
                async for event in events:
                    if isinstance(event, Dispatched):
                        return event.handle
            raise AssertionError("nothing was dispatched")

        handle = wait(stop_before_sending())
        assert service.accepted == 0
        with pytest.raises(EngineUncertainError, match="not sent again"):
            wait(collect_outputs(service, replace(service.task, resume=handle)))
        assert service.accepted == 0


class PollConformance(_Fixtures):
    """A job that is paid for survives every failure of polling until its deadline."""

    def test_transient_errors_between_polls_do_not_lose_a_paid_job(
        self, service: FakeService, running_job: Handler
    ) -> None:
        """Not even more of them than one request is retried."""
        bad = [respond(500, _HTML), respond(502, _HTML), respond(504), drop_connection]
        invalid = [respond(200, _HTML), service.unknown_job]
        service.polls.add(*bad, *bad, respond(429, {}), *invalid, running_job, *invalid)
        assert wait(collect_outputs(service))
        assert service.accepted == 1

    def test_an_unknown_status_means_that_the_job_is_running(self, service: FakeService) -> None:
        """Services have added statuses before."""
        if service.unknown_status is None:
            pytest.skip("its statuses are a closed set")
        service.polls.add(service.unknown_status, service.unknown_status)
        assert wait(collect_outputs(service))

    @pytest.mark.parametrize("known", [False, True])
    def test_a_job_that_stays_unknown_is_lost(
        self, service: FakeService, running_job: Handler, *, known: bool
    ) -> None:
        """From the start or from some time on; it is not submitted again."""
        service.polls.add(*[running_job] * known)
        service.polls.always = service.unknown_job
        with pytest.raises(EngineFailedError, match="lost"):
            wait(collect_outputs(service))
        assert service.accepted == 1

    @pytest.mark.parametrize(
        "always", [None, respond(503), hang, drip], ids=["running", "503", "hangs", "drips"]
    )
    def test_a_job_that_never_ends_times_out_and_is_cancelled(
        self, service: FakeService, running_job: Handler, always: Handler | None
    ) -> None:
        """The error lets no other engine be paid too."""
        service.polls.always = always or running_job
        with pytest.raises(EngineTimeoutError) as error:
            wait(collect_outputs(service, timeout_seconds=_TIMEOUT_SECONDS))
        assert not error.value.repeatable
        assert service.accepted == 1
        assert service.cancelled == (1 if service.cancellable else 0)


class CancelConformance(_Fixtures):
    """Closing a task cancels its jobs at the service."""

    def test_closing_cancels_every_job_that_has_not_ended(self, cancellable: FakeService) -> None:
        """Also those that are not polled yet; ended ones are left alone."""
        task = replace(cancellable.task, seeds=_SEEDS)

        async def close_after_first_output() -> None:
            async with run_engine(cancellable) as engine:
                events = engine.run(task)
                async for event in events:
                    if isinstance(event, Output):
                        break
                await events.aclose()

        wait(close_after_first_output())
        assert cancellable.cancelled == (1 if cancellable.batched else len(_SEEDS) - 1)
        assert cancellable.cancels_by_job in (None, [0, 1, 1])

    def test_cancelling_the_caller_cancels_the_job(
        self, cancellable: FakeService, running_job: Handler
    ) -> None:
        """CancelledError reaches the caller after the service was told."""
        cancellable.polls.always = running_job

        async def cancel() -> None:
            started = asyncio.Event()

            async def consume() -> None:
                async with (
                    run_engine(cancellable) as engine,
                    aclosing(engine.run(cancellable.task)) as events,
                ):
                    async for event in events:
                        if event == Stage(name="generate"):
                            started.set()

            consumer = asyncio.create_task(consume())
            await started.wait()
            consumer.cancel()
            with pytest.raises(asyncio.CancelledError):
                await consumer

        wait(cancel())
        assert cancellable.cancelled == 1

    @pytest.mark.parametrize(
        "response",
        [respond(200, {}), respond(400, {}), respond(404, {}), respond(500), drop_connection],
        ids=["accepted", "completed", "gone", "error", "dropped"],
    )
    def test_a_cancellation_that_fails_is_ignored(
        self, cancellable: FakeService, response: Handler
    ) -> None:
        """Closing the task raises nothing."""
        cancellable.cancels.always = response

        async def close() -> None:
            async with run_engine(cancellable) as engine:
                events = engine.run(cancellable.task)
                async for event in events:
                    if isinstance(event, Dispatched):
                        break
                await events.aclose()

        wait(close())
        assert cancellable.cancelled > 0


class DownloadConformance(_Fixtures):
    """Results are downloaded without the API key and validated."""

    @pytest.mark.parametrize(
        "response",
        [
            respond(403, "<Error>AuthenticationFailed</Error>"),
            respond(404, "<Error>NoSuchKey</Error>"),
            respond(200, {"no": "image"}),
            respond(200, "<html>"),
            respond_bytes(b"\x89PNG no", "image/png"),
        ],
        ids=["expired", "gone", "json", "page", "broken"],
    )
    def test_a_result_that_is_gone_or_invalid_has_failed(
        self, downloadable: FakeService, response: Handler
    ) -> None:
        """There is no job left to cancel."""
        downloadable.downloads.add(response)
        with pytest.raises(EngineFailedError):
            wait(collect_outputs(downloadable))
        assert downloadable.accepted == 1
        assert downloadable.cancelled == 0

    def test_an_incomplete_image_has_failed(self, downloadable: FakeService) -> None:
        """An image is decoded before it is returned."""
        downloadable.downloads.add(respond_bytes(_png()[:2000], "image/png"))
        with pytest.raises(EngineFailedError, match="cannot be decoded"):
            wait(collect_outputs(downloadable))

    def test_a_download_that_breaks_is_retried(self, downloadable: FakeService) -> None:
        """The result is still there."""
        downloadable.downloads.add(cut_short(_png(), "image/png"), respond(503))
        outputs = wait(collect_outputs(downloadable))
        assert all(isinstance(output.media, Encoded) for output in outputs)
        assert downloadable.leaks == 0

    def test_a_storage_that_stays_down_lets_no_other_engine_be_paid(
        self, downloadable: FakeService
    ) -> None:
        """The job is done and billed."""
        downloadable.downloads.always = respond(503)
        with pytest.raises(EngineTimeoutError, match="still be working") as error:
            wait(collect_outputs(downloadable))
        assert not error.value.repeatable
        assert downloadable.accepted == 1

    def test_a_download_that_never_ends_times_out(self, downloadable: FakeService) -> None:
        """Although the job has succeeded."""
        downloadable.downloads.add(drip)
        with pytest.raises(EngineTimeoutError):
            wait(collect_outputs(downloadable, timeout_seconds=_TIMEOUT_SECONDS))


class RemoteConformance(
    SubmitConformance,
    RestartConformance,
    PollConformance,
    CancelConformance,
    DownloadConformance,
):
    """Everything that is asked of an engine of a remote service; override the fixture `service`."""
