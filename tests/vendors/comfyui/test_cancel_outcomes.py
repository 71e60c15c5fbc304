"""What a cancellation says of jobs at a ComfyUI server, which bills nothing unless a price is configured."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import pytest
from grpc import aio

from atelier.v1.generation_pb2 import CancelOutcome
from atelier.v1.generation_service_pb2 import CancelGenerationRequest
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_engines.closing import Closing, Stop, announce
from atelier_engines.conformance.fake_server import respond
from atelier_engines.conformance.remote_service import collect_outputs, run_engine
from atelier_engines.event import Dispatched, Event, Output
from tests.conftest import StartServer
from tests.server.calls import Stub, eventually, image_request, on_acceptance
from tests.vendors.calls import at_stage, stop_when
from tests.vendors.comfyui.state import TASK, StandIn


async def test_a_waiting_job_never_starts(server: StandIn) -> None:
    """It is taken out of the queue."""
    server.does.others, server.does.held = 2, True
    assert await stop_when(server, at_stage("queued")) is Stop.NEVER_STARTED


async def test_before_a_job_is_sent_there_is_none_to_stop(server: StandIn) -> None:
    """Its id is stored, and that is all."""
    assert await stop_when(server, _dispatched) is Stop.NEVER_STARTED
    assert server.asked_to_cancel == []


async def test_a_running_job_is_stopped(server: StandIn) -> None:
    """At its next step."""
    server.does.step_seconds = 0.05
    assert await stop_when(server, lambda _: bool(server.executing)) is Stop.STOPPED


async def test_a_server_that_does_not_answer_may_go_on(server: StandIn) -> None:
    """Until it is told later."""
    server.cancels.always = respond(503)
    server.does.held = True
    assert await stop_when(server, at_stage("generate"), TASK) is Stop.MAY_GO_ON


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_job_that_could_not_be_stopped_is_resumed(
    server: StandIn, *, stopped: bool
) -> None:
    """Unless it was stopped after all: then it is ordered again."""
    server.does.step_seconds = 0.3
    server.cancels.always = respond(503)
    closing = Closing()
    announce(closing)
    async with run_engine(server) as engine, aclosing(engine.run(TASK)) as events:
        async for _ in events:
            if server.executing:
                break
    assert (closing.stop, bool(closing.left)) == (Stop.MAY_GO_ON, True)
    if stopped:
        server.stop_jobs()
    server.does.step_seconds = 0.002
    server.cancels.clear()
    assert await collect_outputs(server, replace(TASK, resume=closing.left or ""))
    assert (server.accepted, server.billed) == (1 + stopped, 1)


async def test_a_job_that_is_resumed_is_not_stopped_late(server: StandIn) -> None:
    """Although the same engine still tries to."""
    server.does.step_seconds = 0.3
    server.cancels.always = respond(503)
    closing = Closing()
    announce(closing)
    async with run_engine(server) as engine:
        async with aclosing(engine.run(TASK)) as events:
            async for _ in events:
                if server.executing:
                    break
        outputs = 0
        async with aclosing(engine.run(replace(TASK, resume=closing.left or ""))) as events:
            async for event in events:
                server.cancels.clear()
                outputs += isinstance(event, Output)
    assert (outputs, server.accepted, server.interrupts) == (1, 1, [])


def _dispatched(event: Event) -> bool:
    return isinstance(event, Dispatched)


@pytest.mark.parametrize("priced", [False, True])
async def test_the_answer_to_a_cancellation_says_what_happened(
    server: StandIn, start_server: StartServer, *, priced: bool
) -> None:
    """Money is mentioned only where there is a price."""
    engine: dict[str, object] = {"type": "comfyui", "servers": [{"url": server.url}]}
    if priced:
        engine["price"] = {"amount": 0.01, "unit": "image"}
    server.does.held = True
    atelier = start_server(engines={"comfy": engine})
    async with aio.insecure_channel(atelier.address) as channel:
        stub = GenerationServiceStub(channel)
        assert await _cancel(stub, server) == CancelOutcome.CANCEL_OUTCOME_NEVER_STARTED
        server.cancels.always = respond(503)
        unknown = CancelOutcome.CANCEL_OUTCOME_MAY_GO_ON
        if priced:
            unknown = CancelOutcome.CANCEL_OUTCOME_VENDOR_MAY_BILL
        assert await _cancel(stub, server) == unknown


async def _cancel(stub: Stub, server: StandIn) -> CancelOutcome.ValueType:
    before = server.asked
    accepted = await stub.Generate(on_acceptance(image_request(engine="comfy")))
    await eventually(lambda: server.asked > before)
    request = CancelGenerationRequest(generation_id=accepted.generation.id)
    return (await stub.CancelGeneration(request)).outcome
