"""CPU time of the server for an answer over Connect and gRPC-Web, compared with gRPC: a small one, and one of 1 MiB."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToJson

from atelier.v1.generation_service_pb2 import GetGenerationRequest, HealthRequest
from bench.calls import OUTPUT_BYTES, make_request, open_stub
from bench.figures import Figure, median
from bench.http_calls import HttpConnection, connect
from bench.processes import ServiceProcess, find_free_port, start_service

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from bench.calls import Stub

_ROUNDS = 6
_SMALL_CALLS = 400
_LARGE_CALLS = 40
_CALLERS = 4
_PATH = "/atelier.v1.GenerationService/"
_ENGINES = {"sketch": {"type": "sketch", "output_bytes": OUTPUT_BYTES}}
_KEPT = {"store": {"retention_seconds": 3600}}
_SMALL, _LARGE = "Health", "GetGeneration"
_GRPC, _JSON = "gRPC", "Connect JSON"
_KINDS = {
    "Connect": "application/proto",
    _JSON: "application/json",
    "gRPC-Web": "application/grpc-web+proto",
}
_MAX_RATIOS = {(_SMALL, "Connect"): 0.5, (_LARGE, "Connect"): 1.0}

_Calls = Callable[[int], Awaitable[None]]


async def measure() -> list[Figure]:
    """Medians over rounds in turn, and their ratios to gRPC's."""
    port = await find_free_port()
    more = {"http": f"127.0.0.1:{port}", **_KEPT}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(start_service(_ENGINES, more=more))
        stub = await stack.enter_async_context(open_stub(server.address))
        connections = [await stack.enter_async_context(connect(port)) for _ in range(_CALLERS)]
        made = (await stub.Generate(make_request())).generation
        requests: Mapping[str, Message] = {
            _SMALL: HealthRequest(),
            _LARGE: GetGenerationRequest(generation_id=made.id, inline_outputs=True),
        }
        found = {
            method: await _compare(server, stub, connections, method, request)
            for method, request in requests.items()
        }
    return [figure for method, used in found.items() for figure in _report(method, used)]


async def _compare(
    server: ServiceProcess,
    stub: Stub,
    connections: list[HttpConnection],
    method: str,
    request: Message,
) -> dict[str, float]:
    """CPU time of a call in each protocol, in milliseconds."""
    sides: dict[str, _Calls] = {_GRPC: partial(_call_grpc, getattr(stub, method), request)}
    for name, kind in _KINDS.items():
        sides[name] = partial(_call_http, connections, _write(method, request, kind))
    calls = _SMALL_CALLS if method == _SMALL else _LARGE_CALLS
    rounds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(_ROUNDS + 1):
        for name, side in sides.items():
            used = server.cpu_seconds()
            await side(calls)
            if number:  # the first one warms up
                rounds[name].append((server.cpu_seconds() - used) / calls * 1e3)
    return {name: median(values) for name, values in rounds.items()}


def _report(method: str, used: Mapping[str, float]) -> list[Figure]:
    size = "small answer" if method == _SMALL else "1 MiB"
    figures = [
        Figure(name=f"{size}, {name}", value=value, unit="ms") for name, value in used.items()
    ]
    for name in _KINDS:
        ratio = used[name] / used[_GRPC]
        title = f"{size}, {name} / gRPC"
        limit = _MAX_RATIOS.get((method, name))
        figures.append(
            Figure(name=title, value=ratio, unit="×")
            if limit is None
            else Figure(name=title, value=ratio, unit="×", bound="at most", target=limit)
        )
    return figures


async def _call_grpc(
    method: Callable[..., Awaitable[object]], request: Message, calls: int
) -> None:
    remaining = iter(range(calls))

    async def keep_calling() -> None:
        for _ in remaining:
            await method(request)

    await asyncio.gather(*(keep_calling() for _ in range(_CALLERS)))


async def _call_http(connections: list[HttpConnection], request: bytes, calls: int) -> None:
    remaining = iter(range(calls))

    async def keep_calling(connection: HttpConnection) -> None:
        for _ in remaining:
            await connection.post(request)

    await asyncio.gather(*map(keep_calling, connections))


def _write(method: str, request: Message, kind: str) -> bytes:
    """The whole request of the method in this content type."""
    body = request.SerializeToString()
    if kind.endswith("json"):
        body = MessageToJson(request).encode()
    elif "grpc-web" in kind:
        body = struct.pack(">BI", 0, len(body)) + body
    head = f"POST {_PATH}{method} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
