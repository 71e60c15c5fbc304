"""What waits for an engine that is removed, renamed or changed while the server is down ends, and says why."""

from __future__ import annotations

from atelier.v1.generation_pb2 import State
from tests.conftest import StartServer
from tests.resilience.follower import Connect, list_all, wait_ended, wait_until
from tests.server.calls import audio_request, image_request, on_acceptance

SLOW = {"type": "sketch", "concurrency": 1, "delay_seconds": 60}


async def test_what_waits_for_a_removed_engine_fails_with_the_reason(
    start_server: StartServer, connect: Connect
) -> None:
    """What ran and what waited; the failure names engines that there are, and the log says it once."""
    server = start_server(engines={"gone": SLOW, "sketch": {"type": "sketch"}})
    request = on_acceptance(image_request(engine="gone"))
    async with connect(server) as stub:
        ids = [(await stub.Generate(request)).generation.id for _ in range(2)]
        server.kill()
    again = start_server(address=server.address, engines={"sketch": {"type": "sketch"}})
    async with connect(again) as stub:
        for generation in await wait_ended(stub, ids):
            assert generation.state == State.STATE_FAILED
            assert generation.failure.reason == "UNKNOWN_ENGINE"
            assert "'gone'" in generation.failure.message
            assert "sketch" in generation.failure.message
    assert again.log.read_text().count("engine_removed") == 1
    failed = [line for line in again.log_lines() if line["event"] == "generation_failed"]
    assert [line["generation"] for line in failed] == ids
    assert all(line["request_id"] and line["attempt"] for line in failed)
    assert {(line["tenant"], line["engine"]) for line in failed} == {("anonymous", "gone")}


async def test_a_removed_fallback_is_replaced_by_another(
    start_server: StartServer, connect: Connect
) -> None:
    """The engine that was tried first still says what may take over."""
    first = {"type": "sketch", "fail_rate": 1, "fallbacks": ["gone"]}
    server = start_server(engines={"first": first, "gone": SLOW})
    async with connect(server) as stub:
        request = on_acceptance(image_request(engine="first"))
        ids = [(await stub.Generate(request)).generation.id]

        async def moved() -> bool:
            return (await list_all(stub))[0].engine == "gone"

        await wait_until(moved)
        server.kill()
    engines = {"first": {**first, "fallbacks": ["other"]}, "other": {"type": "sketch"}}
    again = start_server(address=server.address, engines=engines)
    async with connect(again) as stub:
        (generation,) = await wait_ended(stub, ids)
    assert (generation.state, generation.engine) == (State.STATE_SUCCEEDED, "other")


async def test_the_failure_says_that_the_engine_has_changed(
    start_server: StartServer, connect: Connect
) -> None:
    """The same name, with limits that the accepted task exceeds."""
    server = start_server(engines={"sketch": SLOW})
    async with connect(server) as stub:
        request = on_acceptance(audio_request())
        ids = [(await stub.Generate(request)).generation.id for _ in range(2)]
        server.kill()
    changed = {"sketch": {"type": "upscale"}}
    again = start_server(address=server.address, wait=["sketch"], engines=changed)
    async with connect(again) as stub:
        for generation in await wait_ended(stub, ids):
            assert generation.failure.reason == "UNSUPPORTED"
            assert "has changed since it accepted this generation" in generation.failure.message
