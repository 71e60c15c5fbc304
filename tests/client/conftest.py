"""Both clients behind one interface, and a fake server that fails on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from atelier_client import AsyncClient, Client, Progress
from tests.client.fake_server import FakeServer, serve


class ClientCaller:
    """Calls either client; the synchronous one in a thread."""

    def __init__(self, client: AsyncClient | Client) -> None:
        self.client = client

    async def call(self, method: str, *arguments: object, **keywords: object) -> Any:  # noqa: ANN401 (any method of the client)
        """The answer of a unary method."""
        function: Callable[..., Any] = getattr(self.client, method)
        if isinstance(self.client, AsyncClient):
            awaitable: Awaitable[Any] = function(*arguments, **keywords)
            return await awaitable
        return await asyncio.to_thread(function, *arguments, **keywords)

    async def events(
        self, method: str, *arguments: object, **keywords: object
    ) -> AsyncGenerator[Progress]:
        """The items of a streaming method; closing this generator closes that one."""
        function: Callable[..., Any] = getattr(self.client, method)
        stream = function(*arguments, **keywords)
        if isinstance(self.client, AsyncClient):
            async with aclosing(stream):
                async for event in stream:
                    yield event
            return
        try:
            while (event := await asyncio.to_thread(next, stream, None)) is not None:
                yield event
        finally:
            await asyncio.to_thread(stream.close)


MakeCaller = Callable[..., Any]


@pytest.fixture(params=["asyncio", "synchronous"])
def calling(request: pytest.FixtureRequest) -> MakeCaller:
    """Opens a client of either kind under `async with`."""

    @asynccontextmanager
    async def opened(
        address: str, reconnect_timeout_seconds: float = 30.0
    ) -> AsyncGenerator[ClientCaller]:
        if request.param == "asyncio":
            async with AsyncClient(
                address, reconnect_timeout_seconds=reconnect_timeout_seconds
            ) as client:
                yield ClientCaller(client)
            return
        with Client(address, reconnect_timeout_seconds=reconnect_timeout_seconds) as blocking:
            yield ClientCaller(blocking)

    return opened


@pytest.fixture
async def fake_server() -> AsyncGenerator[tuple[FakeServer, str]]:
    """A fake server, and its address."""
    service = FakeServer()
    async with serve(service) as address:
        yield service, address
