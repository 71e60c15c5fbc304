"""A generation is decided once: the receipt, the task and the output agree, whatever changes before it runs."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import Generation, State
from atelier.v1.task_pb2 import ImageTask
from tests.conftest import RunningServer, StartServer
from tests.resilience.follower import Connect, wait_ended, wait_until
from tests.server.calls import Stub, on_acceptance, receipt_of

_BEFORE = {"poster": {"width": 64, "height": 64, "steps": 2, "prompt_suffix": ", before"}}
_AFTER = {"poster": {"width": 128, "height": 96, "steps": 3, "prompt_suffix": ", after"}}


def _engine(**settings: object) -> dict[str, object]:
    return {"type": "sketch", "concurrency": 1, **settings}


def _poster(engine: str = "sketch") -> pb.GenerateRequest:
    return on_acceptance(
        pb.GenerateRequest(engine=engine, image=ImageTask(prompt="sea", style="poster"))
    )


async def _ended(stub: Stub, generation_id: str) -> Generation:
    (found,) = [
        made for made in await wait_ended(stub, [generation_id]) if made.id == generation_id
    ]
    assert found.state == State.STATE_SUCCEEDED, found.failure
    return found


def _require_agreement(generation: Generation, width: int, height: int, steps: int) -> None:
    """Receipt and output both say this."""
    receipt = receipt_of(generation)
    said = tuple(receipt[name].value.number_value for name in ("width", "height", "steps"))
    assert said == (width, height, steps)
    size = generation.outputs[0].artifact.image_size
    assert (size.width, size.height) == (width, height)


async def _wait_running(stub: Stub, generation_id: str, engine: str = "sketch") -> None:
    async def running() -> bool:
        request = pb.GetGenerationRequest(generation_id=generation_id)
        generation = (await stub.GetGeneration(request)).generation
        return generation.state == State.STATE_RUNNING and generation.engine == engine

    await wait_until(running)


def _forget_task(server: RunningServer) -> None:
    """Leave the file as a version would that stored no decided tasks."""
    with sqlite3.connect(server.data / "atelier.db") as db:
        db.execute("UPDATE generations SET task = x''")
    db.close()


@pytest.mark.parametrize("state", ["queued", "running"])
async def test_a_changed_style_does_not_change_what_was_accepted(
    start_server: StartServer, connect: Connect, state: str
) -> None:
    """The server is killed and starts with another style of that name; the generation is done as accepted."""
    slow: dict[str, Any] = {"engines": {"sketch": _engine(delay_seconds=60)}, "styles": _BEFORE}
    server = start_server(**slow)
    async with connect(server) as stub:
        accepted = [(await stub.Generate(_poster())).generation.id for _ in range(2)]
        generation_id = accepted[0] if state == "running" else accepted[1]
        await _wait_running(stub, accepted[0])
        server.kill()
    again = start_server(address=server.address, engines={"sketch": _engine()}, styles=_AFTER)
    async with connect(again) as stub:
        _require_agreement(await _ended(stub, generation_id), 64, 64, 2)
        fresh = (await stub.Generate(_poster())).generation.id
        _require_agreement(await _ended(stub, fresh), 128, 96, 3)


async def test_a_style_that_is_gone_does_not_matter_any_more(
    start_server: StartServer, connect: Connect
) -> None:
    """The worker needs nothing but the decided task."""
    server = start_server(engines={"sketch": _engine(delay_seconds=60)}, styles=_BEFORE)
    async with connect(server) as stub:
        generation_id = (await stub.Generate(_poster())).generation.id
        server.kill()
    again = start_server(address=server.address, engines={"sketch": _engine()})
    async with connect(again) as stub:
        _require_agreement(await _ended(stub, generation_id), 64, 64, 2)


async def test_a_fallback_is_decided_once_too(start_server: StartServer, connect: Connect) -> None:
    """Killed while the fallback works, with another style after the restart: done as the hand-over decided."""
    failing = _engine(fail_rate=1, fallbacks=["second"])
    server = start_server(
        engines={"first": failing, "second": _engine(delay_seconds=60)}, styles=_BEFORE
    )
    async with connect(server) as stub:
        generation_id = (await stub.Generate(_poster("first"))).generation.id
        await _wait_running(stub, generation_id, "second")
        server.kill()
    again = start_server(
        address=server.address, engines={"first": failing, "second": _engine()}, styles=_AFTER
    )
    async with connect(again) as stub:
        _require_agreement(await _ended(stub, generation_id), 64, 64, 2)


async def test_a_file_without_decided_tasks_is_decided_at_the_first_claim(
    start_server: StartServer, connect: Connect
) -> None:
    """By the styles of that moment, receipt included; the next attempt keeps to it."""
    slow = {"sketch": _engine(delay_seconds=60)}
    server = start_server(engines=slow, styles=_BEFORE)
    async with connect(server) as stub:
        generation_id = (await stub.Generate(_poster())).generation.id
        server.kill()
    _forget_task(server)
    second = start_server(address=server.address, engines=slow, styles=_AFTER)
    async with connect(second) as stub:
        await _wait_running(stub, generation_id)

        async def decided() -> bool:
            request = pb.GetGenerationRequest(generation_id=generation_id)
            generation = (await stub.GetGeneration(request)).generation
            return receipt_of(generation)["width"].value.number_value == 128

        await wait_until(decided)
        second.kill()
    third = start_server(address=server.address, engines={"sketch": _engine()}, styles=_BEFORE)
    async with connect(third) as stub:
        _require_agreement(await _ended(stub, generation_id), 128, 96, 3)
