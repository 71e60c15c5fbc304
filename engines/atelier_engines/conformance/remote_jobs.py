"""Jobs of a remote service: polling, cancellation, and downloads of results."""

# ruff: noqa: S101 (a suite of tests)

from __future__ import annotations

import asyncio
import io
from contextlib import aclosing
from dataclasses import replace

import pytest
from PIL import Image

from atelier_engines.closing import Closing, announce
from atelier_engines.conformance.fake_server import (
    Handler,
    cut_short,
    drip,
    drop_connection,
    hang,
    respond,
    respond_bytes,
)
from atelier_engines.conformance.remote_fixtures import RemoteFixtures
from atelier_engines.conformance.remote_service import (
    FakeService,
    collect_outputs,
    run_engine,
    wait,
)
from atelier_engines.errors import (
    EngineFailedError,
    EngineTimeoutError,
)
from atelier_engines.event import Dispatched, Output, Stage
from atelier_engines.media import Encoded

_HTML = "<html>error"
_SEEDS = (3, 4, 5)
_TIMEOUT_SECONDS = 0.2


def _png() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    return file.getvalue()


class PollConformance(RemoteFixtures):
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


class CancelConformance(RemoteFixtures):
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
                    if isinstance(event, Dispatched) and cancellable.accepted:
                        break
                await events.aclose()

        wait(close())
        assert cancellable.cancelled > 0


class KeepConformance(RemoteFixtures):
    """A run can be closed with its job kept, and the job is found again, whatever the service can cancel."""

    def test_a_run_that_keeps_its_job_leaves_it_alone_for_the_next_one(
        self, resumable: FakeService
    ) -> None:
        """As when a server that is told to stop is started again."""
        closing = Closing()

        async def close_after_dispatch() -> str:
            announce(closing)
            async with run_engine(resumable) as engine:
                assert engine.capabilities.resumable
                handle = ""
                async with aclosing(engine.run(resumable.task)) as events:
                    async for event in events:
                        if handle and isinstance(event, Stage):
                            break
                        if isinstance(event, Dispatched):
                            handle = event.handle
                    closing.keep_job = True
            return handle

        handle = wait(close_after_dispatch())
        assert resumable.cancelled == 0
        assert wait(collect_outputs(resumable, replace(resumable.task, resume=handle)))
        assert resumable.accepted == 1

    def test_an_order_that_is_under_way_is_waited_for(self, resumable: FakeService) -> None:
        """Until its handle is stored: otherwise it would be ordered, and paid for, again."""
        closing = Closing(keep_job=False)

        async def first_handle() -> str:
            announce(closing)
            async with run_engine(resumable) as engine, aclosing(engine.run(resumable.task)) as run:
                async for event in run:
                    if isinstance(event, Dispatched):
                        waiting = asyncio.create_task(closing.wait_settled(60.0))
                        await asyncio.sleep(0)
                        assert not waiting.done()
                        while not isinstance(await anext(run), Stage | Output):
                            pass
                        await waiting
                        closing.keep_job = True
                        return event.handle
            raise AssertionError("nothing was dispatched")

        assert wait(first_handle())
        assert resumable.cancelled == 0


class DownloadConformance(RemoteFixtures):
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
