"""One call over HTTP, with what interceptors and handlers ask a gRPC context for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias, cast

import grpc
from connectrpc.request import RequestContext
from google.protobuf.message import Message
from grpc import aio

from atelier_server.errors import InvalidRequestError, Violation
from atelier_server.rpc.connect.codecs import IncomingMessage, json_to_proto
from atelier_server.rpc.interceptors.chain import Context
from atelier_server.rpc.interceptors.errors import Status

LibraryContext: TypeAlias = "RequestContext[Any, Any]"
"""What the library tells of a call."""
Done: TypeAlias = "Callable[[Context], None]"

done_callbacks: ContextVar[list[Done]] = ContextVar("done_callbacks")
"""What is to be called when the answer to the current request has left."""


class HttpContext:
    """What of gRPC's servicer context is used here, for a call of the library connectrpc."""

    def __init__(
        self, context: LibraryContext, request_kind: type[Message], *, as_json: bool
    ) -> None:
        """Made in the task that handles the call; its messages come by `deliver`."""
        self._context, self._request_kind, self._as_json = context, request_kind, as_json
        self._task = asyncio.current_task()
        self._messages: AsyncIterator[IncomingMessage] | None = None
        self.ended: Status | None = None
        """The status that the call was ended with from outside."""

    def as_grpc(self) -> Context:
        """Itself, by the name of the interface that it stands for."""
        return cast("Context", self)

    def deliver(self, messages: AsyncIterator[IncomingMessage]) -> None:
        """Let `read` return these from now on."""
        self._messages = messages

    async def read(self) -> bytes | object:
        """The next message of the request, as protobuf; aio.EOF after the last.

        Raises:
            InvalidRequestError: nothing has arrived yet, or it is no message of the method.
            TooLargeError: see `json_to_proto`.
        """
        if self._messages is None:
            raise InvalidRequestError([Violation("request", "has not arrived")])
        message = await anext(self._messages, None)
        if message is None:
            return aio.EOF
        data = message.take()
        return await json_to_proto(data, self._request_kind) if self._as_json else data

    async def abort(
        self, code: grpc.StatusCode, message: str, trailers: tuple[tuple[str, str | bytes], ...]
    ) -> None:
        """End the call with this status, from another task than its own."""
        self.ended = Status(code=code, message=message, trailers=trailers)
        if self._task is not None:
            self._task.cancel()

    async def send_initial_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        """Send these headers with the first message: the library sends none before."""
        for key, value in metadata:
            self._context.response_headers[key] = value

    def add_done_callback(self, callback: Done) -> None:
        """Call it when the answer has left, or is lost."""
        done_callbacks.get().append(callback)

    def code(self) -> grpc.StatusCode:
        """The status that the call was ended with from outside."""
        return grpc.StatusCode.OK if self.ended is None else self.ended.code

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""
        milliseconds = self._context.timeout_ms
        return None if milliseconds is None else milliseconds / 1000

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers of the request, by their names in lower case."""
        return tuple(self._context.request_headers.allitems())

    def peer(self) -> str:
        """The other end of the connection, in gRPC's form."""
        address = self._context.client_address
        if address is None:
            return "unix:"
        host, _, port = address.rpartition(":")
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def auth_context(self) -> dict[str, Sequence[bytes]]:
        """Nothing: the server of the HTTP port tells no names of certificates."""
        return {}
