"""Fake HTTP servers of remote services: on loopback, in their own thread, with scripted failures."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextmanager
def serve(*apps: web.Application) -> Iterator[list[str]]:
    """The URLs of the applications, each on a free port; they stop at the end of the block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="stand-in", daemon=True)
    thread.start()

    def wait(work: Awaitable[None]) -> None:
        async def awaited() -> None:
            await work

        asyncio.run_coroutine_threadsafe(awaited(), loop).result(10)

    runners = [
        web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        for app in apps
    ]
    try:
        for runner in runners:
            wait(_listen(runner))
        yield [f"http://127.0.0.1:{runner.addresses[0][1]}" for runner in runners]
    finally:
        for runner in runners:
            wait(runner.cleanup())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _listen(runner: web.AppRunner) -> None:
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()


@dataclass(slots=True)
class ResponseQueue:
    """Scripted responses that replace the regular one, in order."""

    handlers: deque[Handler] = field(default_factory=deque)
    """Handlers of the next requests, one each."""
    always: Handler | None = None
    """Handler of all requests after those; None for the regular response."""

    def add(self, *handlers: Handler) -> None:
        """Append handlers, each for one request."""
        self.handlers.extend(handlers)

    def next_handler(self) -> Handler | None:
        """The handler of the current request; None for the regular response."""
        return self.handlers.popleft() if self.handlers else self.always

    def clear(self) -> None:
        """Return to regular responses."""
        self.handlers.clear()
        self.always = None


def respond(status: int, body: object = None, **headers: str) -> Handler:
    """A handler that responds with `status` and JSON, or with HTML if `body` is text; headers with _ for -."""

    async def answer(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, str):
            return web.Response(status=status, text=body, content_type="text/html", headers=named)
        return web.json_response(body, status=status, headers=named)

    return answer


def respond_bytes(body: bytes, content_type: str) -> Handler:
    """A handler that responds with `body` whole."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=content_type)

    return answer


async def drop_connection(request: web.Request) -> web.StreamResponse:
    """Read the request, then close the connection without a response."""
    await request.read()
    return _cut(request)


async def hang(request: web.Request) -> web.StreamResponse:
    """Read the request and never respond."""
    await request.read()
    await asyncio.sleep(60)
    return _cut(request)


async def drip(request: web.Request) -> web.StreamResponse:
    """Send one byte after another and never end the response."""
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


def cut_short(body: bytes, content_type: str) -> Handler:
    """A handler that announces all of `body`, sends half of it, and closes the connection."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"content-type": content_type, "content-length": str(len(body))}
        )
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        _cut(request)
        return response

    return answer


def _cut(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
