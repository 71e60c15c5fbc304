"""Calls over the HTTP port: a Connect client for each protocol, and requests of any bytes."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from connectrpc.client import ConnectClient
from connectrpc.code import Code
from connectrpc.codec import Codec
from connectrpc.compat import google_protobuf_binary_codec, google_protobuf_json_codec
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from atelier.v1 import generation_service_pb2
from tests.conftest import RunningServer

SERVICE = "atelier.v1.GenerationService"
PROTOCOLS: Mapping[str, tuple[ProtocolType, Codec[Any, Any]]] = {
    "Connect JSON": (ProtocolType.CONNECT, google_protobuf_json_codec()),
    "Connect": (ProtocolType.CONNECT, google_protobuf_binary_codec()),
    "gRPC-Web": (ProtocolType.GRPC_WEB, google_protobuf_binary_codec()),
}
_METHODS = generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"].methods_by_name


def address_of(server: RunningServer) -> str:
    """Where it answers over HTTP."""
    return next(
        str(line["http"])
        for line in reversed(server.log_lines())
        if line["event"] == "server_started"
    )


def describe(name: str) -> MethodInfo[Any, Any]:
    """The method as the client wants it."""
    method = _METHODS[name]
    kinds = {
        (False, False): StreamType.UNARY,
        (False, True): StreamType.SERVER_STREAM,
        (True, False): StreamType.CLIENT_STREAM,
    }
    return MethodInfo(
        name=name,
        service_name=SERVICE,
        input=GetMessageClass(method.input_type),
        output=GetMessageClass(method.output_type),
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=kinds[method.client_streaming, method.server_streaming],
    )


@dataclass(slots=True)
class WebClient:
    """A client of the library connectrpc."""

    address: str
    protocol: str
    headers: Mapping[str, str] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close what was opened."""
        await self._stack.aclose()

    async def call(self, name: str, request: Message, **options: Any) -> Any:  # noqa: ANN401 (any method's response)
        """The answer of a method that takes one message and answers with one."""
        client = await self._open()
        return await client.execute_unary(
            request=request, method=describe(name), headers=self.headers, **options
        )

    async def upload(self, requests: Sequence[Message]) -> Any:  # noqa: ANN401 (see call)
        """The answer of UploadArtifact."""

        async def send() -> AsyncIterator[Message]:
            for request in requests:
                yield request

        client = await self._open()
        return await client.execute_client_stream(
            request=send(), method=describe("UploadArtifact"), headers=self.headers
        )

    async def stream(self, name: str, request: Message) -> AsyncIterator[Any]:
        """The answers of a method that streams them."""
        client = await self._open()
        async for message in client.execute_server_stream(
            request=request, method=describe(name), headers=self.headers
        ):
            yield message

    async def _open(self) -> ConnectClient:
        kind, codec = PROTOCOLS[self.protocol]
        client = ConnectClient(
            f"http://{self.address}", codec=codec, protocol=kind, send_compression=None
        )
        return await self._stack.enter_async_context(client)


def code_of(error: ConnectError) -> grpc.StatusCode:
    """The code by gRPC's name."""
    if error.code is Code.CANCELED:
        return grpc.StatusCode.CANCELLED
    return grpc.StatusCode[error.code.name]


@contextmanager
def connect(address: str) -> Iterator[socket.socket]:
    """A plain connection to the port."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=300) as connection:
        yield connection


def write_request(
    method: str, body: bytes, kind: str = "application/json", **headers: str
) -> bytes:
    """The bytes of a call, after which the server is to close the connection."""
    lines = [
        f"POST /{SERVICE}/{method} HTTP/1.1",
        *("Host: localhost", "Connection: close"),
        *(f"Content-Type: {kind}", f"Content-Length: {len(body)}"),
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def envelope(message: bytes) -> bytes:
    """One message of a stream."""
    return struct.pack(">BI", 0, len(message)) + message
