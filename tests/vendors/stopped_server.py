"""What every service with jobs must survive: a server that is told to stop, with a short drain, while a job runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from grpc import aio

from atelier.v1.generation_pb2 import AttemptOutcome, State
from atelier.v1.generation_service_pb2 import CancelGenerationRequest
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_engines.conformance.remote_service import FakeService
from tests.conftest import StartServer
from tests.resilience.follower import Follower
from tests.server.calls import eventually, image_request, on_acceptance


async def stop_while_a_job_runs(
    service: FakeService, start_server: StartServer, engine: Mapping[str, object]
) -> None:
    """Stop the server after a poll, and start it again: the job goes on, is paid once, and is in both attempts."""
    service.polls.always = service.running
    await _stop_and_start_again(service, start_server, engine, lambda: service.polled > 0)


async def stop_while_an_order_is_sent(
    service: FakeService, start_server: StartServer, engine: Mapping[str, object]
) -> None:
    """Stop the server before the service has answered the request: the answer is waited for and stored."""
    service.answer_seconds = 2.0
    await _stop_and_start_again(service, start_server, engine, lambda: service.accepted > 0)


async def stop_while_an_order_is_cancelled(
    service: FakeService, start_server: StartServer, engine: Mapping[str, object]
) -> None:
    """Stop the server while the answer to a request is awaited to cancel its job: it is cancelled before."""
    engines = {"remote": {"poll_seconds": 0.02, "api_key": service.api_key, **engine}}
    service.answer_seconds = 0.8
    server = start_server(engines=engines, drain_seconds=0)
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        size = {"width": service.task.width, "height": service.task.height}
        request = on_acceptance(image_request(engine="remote", task=size))
        accepted = (await stub.Generate(request)).generation
        await eventually(lambda: service.accepted > 0)
        cancelling = asyncio.ensure_future(
            stub.CancelGeneration(CancelGenerationRequest(generation_id=accepted.id))
        )
        await asyncio.sleep(0.2)  # the engine waits for the answer by now
        assert await asyncio.to_thread(server.terminate) == 0
        cancelling.cancel()
    assert service.cancelled == 1
    assert '"level": "error"' not in server.log.read_text()


async def _stop_and_start_again(
    service: FakeService,
    start_server: StartServer,
    engine: Mapping[str, object],
    reached: Callable[[], bool],
) -> None:
    key = {"api_key": service.api_key} if service.api_key else {}
    settings = {"engines": {"remote": {"poll_seconds": 0.02, **key, **engine}}, "drain_seconds": 0}
    size = {"width": service.task.width, "height": service.task.height}
    server = start_server(**settings)
    async with aio.insecure_channel(server.address) as channel:
        request = on_acceptance(image_request(engine="remote", task=size))
        accepted = await GenerationServiceStub(channel).Generate(request)
        await eventually(reached)
        assert await asyncio.to_thread(server.terminate) == 0
    service.polls.clear()
    service.answer_seconds = 0.0
    again = start_server(**settings)
    follower = Follower(accepted.generation.id)
    async with aio.insecure_channel(again.address) as channel:
        await follower.follow(GenerationServiceStub(channel))
    made = follower.events[-1].generation
    assert made.state == State.STATE_SUCCEEDED
    assert [attempt.outcome for attempt in made.receipt.attempts] == [
        AttemptOutcome.ATTEMPT_OUTCOME_RELEASED,
        AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED,
    ]
    assert (service.accepted, service.cancelled) == (1, 0)
