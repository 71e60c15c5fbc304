"""What every service with jobs must survive: a server that is killed, and a caller who is lost, while a job runs."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing

from grpc import aio

from atelier.v1.generation_pb2 import AttemptOutcome, CancelCause, State
from atelier.v1.generation_service_pb2 import ListGenerationsRequest
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_engines.conformance.remote_service import FakeService
from tests.conftest import RunningServer, StartServer
from tests.resilience.follower import Follower
from tests.server.calls import Stub, eventually, image_request, on_acceptance, refusal


async def hang_up_while_a_job_runs(
    service: FakeService, start_server: StartServer, engine: Mapping[str, object]
) -> None:
    """Lose the only call after a poll, and send the request again: the job, which nobody can cancel, is paid once."""
    key = {"api_key": service.api_key} if service.api_key else {}
    server = start_server(engines={"remote": {"poll_seconds": 0.02, **key, **engine}})
    size = {"width": service.task.width, "height": service.task.height}
    request = image_request(engine="remote", task=size, request_id="hung-up")
    service.polls.always = service.running
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        call = stub.Generate(request)
        await eventually(lambda: service.polled > 0)
        call.cancel()
        await wait_cancelled(stub)  # while the job still runs
        service.polls.clear()
        made = (await stub.Generate(request)).generation
    assert made.state == State.STATE_SUCCEEDED
    assert [attempt.number for attempt in made.receipt.attempts] == [1, 2]
    assert service.accepted == 1


async def kill_while_a_job_runs(
    service: FakeService,
    start_server: StartServer,
    engine: Mapping[str, object],
    *,
    then: Mapping[str, object] | None = None,
) -> None:
    """Start a server with that engine, kill it after a poll, and start it again: the job is paid once.

    The handle was stored before the first poll, and no log holds the API key. `then` are the engine's settings at the
    second start, if they are to be others.
    """
    key = {"api_key": service.api_key} if service.api_key else {}
    engines = {"remote": {"poll_seconds": 0.02, **key, **engine}}
    size = {"width": service.task.width, "height": service.task.height}
    service.polls.always = service.running
    server = start_server(engines=engines)
    async with aio.insecure_channel(server.address) as channel:
        request = on_acceptance(image_request(engine="remote", task=size))
        accepted = await GenerationServiceStub(channel).Generate(request)
        await eventually(lambda: service.polled > 0)
        server.kill()
    service.polls.clear()
    changed = engines if then is None else {"remote": {**engines["remote"], **then}}
    again = start_server(engines=changed)
    follower = Follower(accepted.generation.id)
    async with aio.insecure_channel(again.address) as channel:
        await follower.follow(GenerationServiceStub(channel))
    assert follower.last_state == State.STATE_SUCCEEDED
    assert service.accepted == 1
    for one in (server, again):
        assert not service.api_key or service.api_key not in one.log.read_text()


async def kill_while_an_order_is_sent(
    service: FakeService,
    start_server: StartServer,
    engine: Mapping[str, object],
    *,
    found: bool = False,
) -> None:
    """Kill the server after the service has accepted a job, and before it says so: it is not sent again.

    `found` says that the job can be found under an id that was stored before; else it is uncertain.
    """
    key = {"api_key": service.api_key} if service.api_key else {}
    engines = {"remote": {"poll_seconds": 0.02, **key, **engine}}
    size = {"width": service.task.width, "height": service.task.height}
    service.answer_seconds = 600.0
    server = start_server(engines=engines)
    async with aio.insecure_channel(server.address) as channel:
        request = on_acceptance(image_request(engine="remote", task=size))
        accepted = await GenerationServiceStub(channel).Generate(request)
        await eventually(lambda: service.accepted > 0)
        server.kill()
    service.answer_seconds = 0.0
    again = start_server(engines=engines)
    follower = Follower(accepted.generation.id)
    async with aio.insecure_channel(again.address) as channel:
        await follower.follow(GenerationServiceStub(channel))
    assert service.accepted == 1
    assert follower.last_state == (State.STATE_SUCCEEDED if found else State.STATE_FAILED)
    reason = follower.events[-1].generation.failure.reason
    assert reason == ("" if found else "ENGINE_UNCERTAIN")


async def hang_up_while_an_order_is_sent(
    service: FakeService, start_server: StartServer, engine: Mapping[str, object]
) -> None:
    """Lose the only call before the service has answered: what it accepted is cancelled there."""
    engines = {"remote": {"poll_seconds": 0.02, "api_key": service.api_key, **engine}}
    size = {"width": service.task.width, "height": service.task.height}
    service.answer_seconds = 0.5
    server = start_server(engines=engines)
    async with aio.insecure_channel(server.address) as channel:
        call = GenerationServiceStub(channel).Generate(image_request(engine="remote", task=size))
        await eventually(lambda: service.accepted > 0)
        call.cancel()
        await eventually(lambda: service.cancelled > 0)
    assert service.accepted == 1


async def kill_while_a_job_is_cancelled(
    service: FakeService, start_server: StartServer, engine: Mapping[str, object]
) -> None:
    """Kill the server when it has noted that the callers are lost, and ask again: the next one begins a new job."""
    engines = {"remote": {"poll_seconds": 0.02, "api_key": service.api_key, **engine}}
    size = {"width": service.task.width, "height": service.task.height}
    request = image_request(engine="remote", task=size, request_id="lost")
    service.polls.always = service.running
    server = start_server(engines=engines)
    async with aio.insecure_channel(server.address) as channel:
        call = GenerationServiceStub(channel).Generate(request)
        await eventually(lambda: service.polled > 0)
        server.kill()
        call.cancel()
    note_lost_callers(server)
    again = start_server(engines=engines)
    async with aio.insecure_channel(again.address) as channel:
        await eventually(lambda: service.cancelled > 0)
        service.polls.clear()
        made = (await GenerationServiceStub(channel).Generate(request)).generation
    assert made.state == State.STATE_SUCCEEDED
    outcomes = [attempt.outcome for attempt in made.receipt.attempts]
    assert outcomes == [
        AttemptOutcome.ATTEMPT_OUTCOME_CANCELLED,
        AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED,
    ]
    assert service.accepted == 2


async def kill_while_an_order_is_cancelled(
    service: FakeService, start_server: StartServer, engine: Mapping[str, object]
) -> None:
    """Kill the server when it has noted that the callers are lost and no answer to its order has come, and ask again.

    The service may have accepted the order, so it is not sent again.
    """
    engines = {"remote": {"poll_seconds": 0.02, "api_key": service.api_key, **engine}}
    size = {"width": service.task.width, "height": service.task.height}
    request = image_request(engine="remote", task=size, request_id="lost")
    service.answer_seconds = 600.0
    server = start_server(engines=engines)
    async with aio.insecure_channel(server.address) as channel:
        call = GenerationServiceStub(channel).Generate(request)
        await eventually(lambda: service.accepted > 0)
        server.kill()
        call.cancel()
    note_lost_callers(server)
    service.answer_seconds = 0.0
    again = start_server(engines=engines)
    async with aio.insecure_channel(again.address) as channel:
        refused = await refusal(GenerationServiceStub(channel).Generate(request))
    assert refused.reason == "ENGINE_UNCERTAIN"
    assert service.accepted == 1


def note_lost_callers(server: RunningServer) -> None:
    """Have the database say what it says just before a running generation is cancelled."""
    with closing(sqlite3.connect(server.data / "atelier.db")) as db, db:
        lost = CancelCause.CANCEL_CAUSE_CALLERS_LOST
        db.execute("UPDATE generations SET cancel_requested = ?", (lost,))


async def wait_cancelled(stub: Stub) -> None:
    """Wait until the only generation of the server is cancelled."""
    request = ListGenerationsRequest(states=[State.STATE_CANCELLED])
    while True:
        if (await stub.ListGenerations(request)).generations:
            return
        await asyncio.sleep(0.02)
