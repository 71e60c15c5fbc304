"""Paid requests: sent at most once, before and after a restart."""

# ruff: noqa: S101 (a suite of tests)

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import pytest

from atelier_engines.conformance.fake_server import (
    Handler,
    cut_short,
    drop_connection,
    respond,
)
from atelier_engines.conformance.remote_fixtures import RemoteFixtures
from atelier_engines.conformance.remote_service import (
    FakeService,
    collect_outputs,
    crash,
    run_engine,
    wait,
)
from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineQuotaError,
    EngineUnavailableError,
    EngineUncertainError,
    InvalidTaskError,
)
from atelier_engines.event import Dispatched, Stage

_HTML = "<html>error"
_SEEDS = (3, 4, 5)
_WRONG_KEY = "a-wrong-id:and-a-secret"


class SubmitConformance(RemoteFixtures):
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

    def test_refused_content_is_reported_and_not_sent_again(self, service: FakeService) -> None:
        """Neither the same request nor another one; the error does not allow another engine."""
        task = service.flag_next()
        if task is None:
            pytest.skip("it does not check content")
        with pytest.raises(ContentFilteredError) as error:
            wait(collect_outputs(service, task))
        assert service.accepted <= 1
        assert not error.value.retryable

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


class RestartConformance(RemoteFixtures):
    """A new process continues with the handle alone, and pays nothing twice."""

    def test_the_handle_comes_before_the_first_poll(self, resumable: FakeService) -> None:
        """A process that dies while it waits has stored what finds the job; the handle holds no secret."""

        async def submit() -> str:
            async with run_engine(resumable) as engine:
                events = engine.run(resumable.task)
                assert await anext(events) == Stage(name="submit")
                dispatched = await anext(events)
                while not resumable.accepted:  # that it will be sent may be stored before
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
