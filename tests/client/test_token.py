"""The token is sent with every call, or with none."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from atelier_client import AsyncClient, Client
from tests.client.conftest import ClientCaller
from tests.client.fake_server import IMAGE_FILE, FakeServer

Served = tuple[FakeServer, str]


async def call_everything(client: AsyncClient | Client) -> None:
    """Each call of the contract at least once."""
    caller = ClientCaller(client)
    for method in ("generate", "submit", "plan"):
        await caller.call(method, "a lamp")
    for method in ("get", "cancel", "download"):
        await caller.call(method, "image-1")
    await caller.call("upload", IMAGE_FILE)
    await caller.call("capabilities")
    await caller.call("health")
    async with aclosing(caller.events("follow", "g1")) as events:
        async for _ in events:
            pass
    if isinstance(client, AsyncClient):
        async with aclosing(client.list()) as generations:
            async for _ in generations:
                pass
    else:
        await asyncio.to_thread(lambda: list(client.list()))


async def test_a_token_goes_with_every_call(fake_server: Served) -> None:
    """As a bearer token in the call's metadata, from both clients."""
    service, address = fake_server
    async with AsyncClient(address, token="s3cret") as client:  # noqa: S106 (no secret)
        await call_everything(client)
    with Client(address, token="s3cret") as client:  # noqa: S106 (it guards nothing)
        await call_everything(client)
    assert set(service.authorizations) == {"Bearer s3cret"}
    assert len({type(request) for request in service.requests}) == 10


async def test_without_a_token_no_metadata_is_sent(fake_server: Served) -> None:
    """No empty token is sent."""
    service, address = fake_server
    async with AsyncClient(address) as client:
        await client.health()
    assert service.authorizations == [None]
