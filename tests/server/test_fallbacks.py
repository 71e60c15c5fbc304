"""What was never begun goes to a fallback at once, while its engine cannot take it; the receipt says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from atelier.v1 import engine_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import AttemptOutcome, Generation, SelectionReason, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import MediaSource
from tests.conftest import RunningServer, StartServer
from tests.server.calls import (
    Stub,
    audio_request,
    events_of,
    image_request,
    on_acceptance,
    refusal,
    slow_request,
    stored_blobs,
)
from tests.server.conftest import install_odd
from tests.server.test_artifacts import png

TWIN = {"twin": {"type": "sketch"}}
ABSENT = {"type": "odd", "start": "fails"}
LOADING = {"type": "odd", "start": "hangs"}
SKIPPED, FAILED, SUCCEEDED = "SKIPPED", "FAILED", "SUCCEEDED"


@pytest.fixture
def odd(tmp_path: Path) -> Mapping[str, str]:
    """The environment in which the third party's engine is found."""
    return install_odd(tmp_path / "site")


@asynccontextmanager
async def calling(server: RunningServer) -> AsyncIterator[Stub]:
    """Calls the server."""
    async with aio.insecure_channel(server.address) as channel:
        yield GenerationServiceStub(channel)


async def state_of(stub: Stub, engine: str) -> engine_pb2.EngineState.ValueType:
    """The state of the engine."""
    answer = await stub.Health(pb.HealthRequest())
    (found,) = [each for each in answer.engines if each.engine == engine]
    return found.state


async def until_down(stub: Stub, engine: str) -> None:
    """Wait until the engine is unavailable."""
    down = engine_pb2.ENGINE_STATE_UNAVAILABLE
    while await state_of(stub, engine) != down:  # noqa: ASYNC110 (in another process)
        await asyncio.sleep(0.02)


def attempts_of(generation: Generation) -> list[tuple[int, str, str]]:
    """Number, engine and outcome of each attempt."""
    return [
        (
            tried.number,
            tried.engine,
            AttemptOutcome.Name(tried.outcome).removeprefix("ATTEMPT_OUTCOME_"),
        )
        for tried in generation.receipt.attempts
    ]


async def test_an_engine_without_its_model_hands_over(
    start_server: StartServer, odd: Mapping[str, str]
) -> None:
    """The plan says what is then done, and the receipt why; a pause keeps what waits from the fallbacks."""
    engines = {"absent": {**ABSENT, "fallbacks": ["twin"]}, **TWIN}
    async with calling(start_server(engines=engines, environment=odd, wait=["twin"])) as stub:
        await until_down(stub, "absent")
        request = image_request(engine="absent")
        plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=request))
        made = (await stub.Generate(request)).generation
        await stub.PauseEngine(pb.PauseEngineRequest(engine="absent", reason="maintenance"))
        refused = await refusal(stub.Generate(request))
    assert refused.reason == "ENGINE_UNAVAILABLE"
    assert (plan.engine, plan.accepted) == ("twin", True)
    assert (made.engine, made.state) == ("twin", State.STATE_SUCCEEDED)
    assert attempts_of(made) == [(0, "absent", SKIPPED), (1, "twin", SUCCEEDED)]
    failure = made.receipt.attempts[0].failure
    assert failure.reason == "ENGINE_UNAVAILABLE"
    assert "there are no weights in /models" in failure.message
    for selection in (plan.selection, made.receipt.selection):
        assert selection.reason == SelectionReason.SELECTION_REASON_FALLBACK
        assert selection.explanation.startswith("fallback after absent: engine 'absent' is not")
    assert made.receipt.recipe.engine_type == "sketch"


async def test_an_open_circuit_breaker_hands_over(start_server: StartServer) -> None:
    """What comes while it is open, without another failure; no health check is waited for."""
    failing = {
        "type": "sketch",
        "fail_rate": 1,
        "fallbacks": ["twin"],
        "breaker": {"failure_threshold": 1, "reset_timeout_seconds": 3600},
    }
    server = start_server(engines={"bad": failing, **TWIN}, health_interval_seconds=3600)
    async with calling(server) as stub:
        first = (await stub.Generate(image_request(engine="bad"))).generation
        await until_down(stub, "bad")
        second = (await stub.Generate(image_request(engine="bad"))).generation
    assert attempts_of(first) == [(1, "bad", FAILED), (2, "twin", SUCCEEDED)]
    assert attempts_of(second) == [(0, "bad", SKIPPED), (1, "twin", SUCCEEDED)]
    assert "circuit breaker open" in second.receipt.attempts[0].failure.message


async def test_an_exhausted_budget_hands_over(start_server: StartServer) -> None:
    """Also when the engine is the default."""
    dear = {"type": "sketch", "price_per_image": 1, "daily_budget": 1, "fallbacks": ["twin"]}
    server = start_server(engines={"dear": dear, **TWIN}, default_engine="dear")
    async with calling(server) as stub:
        made = [(await stub.Generate(image_request(engine=""))).generation for _ in range(2)]
    assert [generation.engine for generation in made] == ["dear", "twin"]
    assert attempts_of(made[1]) == [(0, "dear", SKIPPED), (1, "twin", SUCCEEDED)]
    assert made[1].receipt.attempts[0].failure.reason == "BUDGET_EXCEEDED"
    assert not made[1].receipt.HasField("cost")


async def test_what_waits_when_a_budget_is_spent_is_handed_over(start_server: StartServer) -> None:
    """It was accepted before; the engine begins nothing that it may not pay."""
    dear = {"type": "sketch", "price_per_image": 1, "daily_budget": 1, "fallbacks": ["twin"]}
    server = start_server(engines={"dear": dear, **TWIN}, health_interval_seconds=0.1)
    async with calling(server) as stub:
        requests = [slow_request(1.0, 2, engine="dear") for _ in range(3)]
        ids = [(await stub.Generate(on_acceptance(each))).generation.id for each in requests]
        watches = [pb.StreamProgressRequest(generation_id=one) for one in ids]
        made = [(await events_of(stub, watch))[-1].generation for watch in watches]
    assert [one.engine for one in made] == ["dear", "twin", "twin"]
    assert [one.receipt.cost.amount for one in made] == [1, 0, 0]
    for generation in made[1:]:
        assert attempts_of(generation) == [(0, "dear", SKIPPED), (1, "twin", SUCCEEDED)]


async def test_an_engine_hands_over_only_after_loading_for_long(
    start_server: StartServer, odd: Mapping[str, str]
) -> None:
    """Until then the same request gets the same engine, and the caller tries again."""
    engines = {
        "slow": {**LOADING, "fallbacks": ["twin"]},
        "slower": {**LOADING, "fallbacks": ["twin"], "max_loading_seconds": 0},
        **TWIN,
    }
    server = start_server(engines=engines, environment=odd, wait=["twin"])
    async with calling(server) as stub:
        assert (await refusal(stub.Generate(image_request(engine="slow")))).reason == (
            "ENGINE_UNAVAILABLE"
        )
        made = (await stub.Generate(image_request(engine="slower"))).generation
    assert attempts_of(made) == [(0, "slower", SKIPPED), (1, "twin", SUCCEEDED)]


async def test_the_refusal_says_why_no_fallback_takes_over(
    start_server: StartServer, odd: Mapping[str, str]
) -> None:
    """One is loading, one cannot do the task."""
    engines = {
        "absent": {**ABSENT, "fallbacks": ["slow", "small"]},
        "slow": LOADING,
        "small": {"type": "odd"},
    }
    async with calling(start_server(engines=engines, environment=odd, wait=["small"])) as stub:
        await until_down(stub, "absent")
        refused = await refusal(stub.Generate(audio_request(engine="absent")))
    assert refused.reason == "ENGINE_UNAVAILABLE"
    assert "no weights in /models" in refused.message
    assert "fallback 'slow' cannot take over: engine 'slow' is not ready" in refused.message
    assert (
        "fallback 'small' cannot take over: this engine does not support audio" in refused.message
    )


async def test_what_waits_is_handed_over_when_its_engine_goes_down(
    start_server: StartServer, odd: Mapping[str, str]
) -> None:
    """In order, without having run; what no fallback can do, and one whose image is lost, stay, and keep no other."""
    server = start_server(engines={"stuck": {"type": "sketch", "concurrency": 1, "hang": True}})
    image, audio = image_request(engine="stuck"), audio_request(engine="stuck")
    lost = image_request(engine="stuck", task={"init_image": MediaSource(attachment="a")})
    lost.attachments["a"] = png("blue", (64, 64))
    requests = [
        image,
        lost,
        image,
        *[audio] * 100,
        *[image] * 2,
    ]  # more than are looked at in one turn
    async with calling(server) as stub:
        ids = [(await stub.Generate(on_acceptance(one))).generation.id for one in requests]
    server.kill()
    for blob in stored_blobs(server):
        (server.data / "artifacts" / blob).unlink()
    small = {"type": "odd"}
    engines: dict[str, Any] = {"stuck": {**ABSENT, "fallbacks": ["small"]}, "small": small}
    server = start_server(engines=engines, environment=odd, wait=["small"])
    async with calling(server) as stub:
        for number, generation_id in enumerate([ids[0], ids[2], *ids[-2:]]):
            log = await events_of(stub, pb.StreamProgressRequest(generation_id=generation_id))
            made = log[-1].generation
            assert (made.state, made.engine) == (State.STATE_SUCCEEDED, "small")
            skipped = attempts_of(made)[-2]
            assert skipped == (0, "stuck", SKIPPED)
            if number:  # the first had begun when the server was killed
                running = [event for event in log if event.state == State.STATE_RUNNING]
                assert {event.engine for event in running} == {"small"}
                assert len(attempts_of(made)) == 2
        for generation_id in (ids[1], ids[3]):
            left = await stub.GetGeneration(pb.GetGenerationRequest(generation_id=generation_id))
            assert (left.generation.state, left.generation.engine) == (State.STATE_QUEUED, "stuck")


async def test_a_failure_is_told_where_the_image_for_the_fallback_is_lost(
    start_server: StartServer,
) -> None:
    """The failure of the engine, which had it."""
    bad = {"type": "sketch", "fail_rate": 1, "fallbacks": ["twin"]}
    server = start_server(engines={"bad": bad, **TWIN})
    request = slow_request(1.0, 2, engine="bad")
    request.image.init_image.attachment = "a"
    request.attachments["a"] = png("blue", (64, 64))
    async with calling(server) as stub:
        made = (await stub.Generate(on_acceptance(request))).generation
        async for event in stub.StreamProgress(pb.StreamProgressRequest(generation_id=made.id)):
            if event.step:
                for blob in stored_blobs(server):
                    (server.data / "artifacts" / blob).unlink()
        assert event.state == State.STATE_FAILED
        assert event.generation.failure.reason == "ENGINE_FAILED"


async def test_what_a_fallback_takes_over_is_work_ahead_of_others(
    start_server: StartServer,
) -> None:
    """A plan for the fallback waits for it, and one for the engine that failed does not."""
    engines = {
        "bad": {"type": "sketch", "fail_rate": 1, "fallbacks": ["one"]},
        "one": {"type": "sketch", "concurrency": 1, "delay_seconds": 2},
    }
    async with calling(start_server(engines=engines)) as stub:
        await stub.Generate(image_request(engine="one"))
        moved = pb.StreamProgressRequest(generate=image_request(engine="bad"))
        async for event in stub.StreamProgress(moved):
            if event.engine == "one" and event.state == State.STATE_RUNNING:
                break
        named = pb.GetGenerationRequest(generation_id=event.generation_id)
        taken_over = (await stub.GetGeneration(named)).generation
        assert not taken_over.receipt.HasField("recipe")  # that of "bad" repeats nothing
        waits = [
            (
                await stub.PlanGeneration(
                    pb.PlanGenerationRequest(generate=image_request(engine=engine))
                )
            ).estimated_wait.ToMicroseconds()
            for engine in ("one", "bad")
        ]
    assert waits[0] > 0 == waits[1]


async def test_engines_that_are_each_others_fallbacks_come_to_an_end(
    start_server: StartServer, odd: Mapping[str, str]
) -> None:
    """None is tried twice: not after failures, nor when one of them was down."""
    fails = {"type": "sketch", "fail_rate": 1}
    engines = {
        "a": {**fails, "fallbacks": ["b"]},
        "b": {**fails, "fallbacks": ["c", "a"]},
        "c": {**fails, "fallbacks": ["a", "b"]},
        "down": {**ABSENT, "fallbacks": ["a", "down-too", "c"]},
        "down-too": {**ABSENT, "fallbacks": ["down", "a"]},
    }
    server = start_server(engines=engines, environment=odd, wait=["a", "b", "c"])
    async with calling(server) as stub:
        await until_down(stub, "down")
        await until_down(stub, "down-too")
        for engine, expected in {
            "a": [(1, "a", FAILED), (2, "b", FAILED)],
            "b": [(1, "b", FAILED), (2, "c", FAILED), (3, "a", FAILED)],
            "down": [(0, "down", SKIPPED), (1, "a", FAILED), (2, "c", FAILED)],
        }.items():
            refused = await refusal(stub.Generate(image_request(engine=engine)))
            assert refused.reason == "ENGINE_FAILED"
            ended = await stub.GetGeneration(
                pb.GetGenerationRequest(generation_id=refused.metadata["generation_id"])
            )
            assert attempts_of(ended.generation) == expected
