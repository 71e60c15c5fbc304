"""A real server is killed while its rented instance runs a task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

from atelier_client import AsyncClient, State, Tls
from atelier_engines.vendors.vastai.credentials import SERVER_NAME
from tests.conftest import RunningServer, launch
from tests.vendors.vastai.stand_in import KEY, StandIn
from tests.vendors.vastai.test_credentials import find_key


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


async def test_a_killed_server_finds_its_instance_and_its_task_again(
    vendor: StandIn, tmp_path: Path
) -> None:
    """The instance is rented once and the image generated once; a stop destroys the instance."""
    with serving(vendor, tmp_path) as server:
        async with AsyncClient(server.address) as client:
            options = {"delay_seconds": 3}
            accepted = await client.submit("a lamp", engine="rented", steps=40, options=options)
            async with aclosing(client.follow(accepted.id)) as updates:
                async for progress in updates:
                    if progress.step > 3:
                        break
    with serving(vendor, tmp_path) as server:
        async with AsyncClient(server.address) as client:
            async with aclosing(client.follow(accepted.id)) as updates:
                async for _ in updates:
                    pass
            generation = await client.get(accepted.id)
        (instance,) = vendor.rented
        assert instance.server is not None
        key = find_key(tmp_path / "data/engines/rented")
        direct = AsyncClient(
            instance.server.address,
            tls=Tls(ca=key.with_suffix(".pem"), server_name=SERVER_NAME),
            token=key.read_text(),
        )
        async with direct as client, aclosing(client.list()) as found:
            generations = [one async for one in found]
        assert server.terminate() == 0
    assert generation.state is State.SUCCEEDED
    assert generation.receipt is not None
    assert len(generation.receipt.attempts) == 2
    assert [one.state for one in generations] == [State.SUCCEEDED]
    assert vendor.instances == {}
