"""Servers for stand-ins of vendors: real HTTP on loopback, in a thread of their own."""

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
def serving(*apps: web.Application) -> Iterator[list[str]]:
    """The addresses of the applications, each on a free port; they end with the block."""
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
class Line:
    """Answers that come before the honest one, in order."""

    handlers: deque[Handler] = field(default_factory=deque)
    """What is still to come."""
    for_ever: Handler | None = None
    """What comes after those, instead of the honest answer."""

    def add(self, *handlers: Handler) -> None:
        """Answer so, once each."""
        self.handlers.extend(handlers)

    def next(self) -> Handler | None:
        """What is to answer now; None for the honest answer."""
        return self.handlers.popleft() if self.handlers else self.for_ever

    def clear(self) -> None:
        """Be honest again."""
        self.handlers.clear()
        self.for_ever = None


def answering(status: int, body: object = None, **headers: str) -> Handler:
    """That status, with JSON or, if `body` is text, with a page; headers with _ for -."""

    async def answer(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, str):
            return web.Response(status=status, text=body, content_type="text/html", headers=named)
        return web.json_response(body, status=status, headers=named)

    return answer


def sending(body: bytes, content_type: str) -> Handler:
    """Those bytes, whole."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=content_type)

    return answer


async def dropping(request: web.Request) -> web.StreamResponse:
    """Read the request, then break the connection without a word."""
    await request.read()
    return _cut(request)


async def hanging(request: web.Request) -> web.StreamResponse:
    """Never answer."""
    await request.read()
    await asyncio.sleep(60)
    return _cut(request)


async def dripping(request: web.Request) -> web.StreamResponse:
    """Send a byte now and then, and never end."""
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


def cutting(body: bytes, content_type: str) -> Handler:
    """Announce all of `body`, send half, and break the connection."""

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
