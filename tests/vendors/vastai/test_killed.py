"""A real server that rents a machine, and dies while the machine is at work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

from atelier_client import AsyncClient, State
from tests.conftest import RunningServer, launch
from tests.vendors.vastai.stand_in import KEY, StandIn


@contextmanager
def serving(vendor: StandIn, directory: Path) -> Iterator[RunningServer]:
    """A server with the engine `rented`; killed at the end of the block, if not before."""
    engine = {
        "type": "vastai",
        "api_key": KEY,
        "base_url": vendor.api,
        "label": "tests",
        "image": "atelier:1",
        "max_price_per_hour": 1.0,
        "spending_cap": 10.0,
        "poll_seconds": 0.05,
        "worker": {"engine": "sketch"},
    }
    server = launch(directory, engines={"rented": engine})
    try:
        yield server
    finally:
        server.kill()


async def test_a_server_that_is_killed_finds_its_machine_and_its_work_again(
    vendor: StandIn, tmp_path: Path
) -> None:
    """The machine is rented once and the picture made once; a stop destroys the machine."""
    with serving(vendor, tmp_path) as server:
        async with AsyncClient(server.address) as client:
            options = {"delay_seconds": 3}
            accepted = await client.submit("a lamp", engine="rented", steps=40, options=options)
            async with aclosing(client.follow(accepted.id)) as story:
                async for progress in story:
                    if progress.step > 3:
                        break
    with serving(vendor, tmp_path) as server:
        async with AsyncClient(server.address) as client:
            async with aclosing(client.follow(accepted.id)) as story:
                async for _ in story:
                    pass
            made = await client.get(accepted.id)
        (box,) = vendor.rented
        assert box.server is not None
        async with AsyncClient(box.server.address) as client, aclosing(client.list()) as found:
            there = [one async for one in found]
        assert server.terminate() == 0
    assert made.state is State.SUCCEEDED
    assert made.receipt is not None
    assert len(made.receipt.attempts) == 2
    assert [one.state for one in there] == [State.SUCCEEDED]
    assert vendor.boxes == {}
