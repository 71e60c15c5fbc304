"""Hands answers to gRPC only while there is memory for them, and counts them until their callers have taken them.

gRPC ends the task of a call when the last byte of its answer has left, or the call is lost: that gives back what the
answer held. A stream is asked for its next message when the one before has left, but for the last 64 KiB.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from grpc import aio

from atelier_server.rpc.answer_memory import COPIES, SMALL_BYTES, STREAM_COPIES, AnswerMemory
from atelier_server.rpc.inline_outputs import SerializedResponse
from atelier_server.shared_memory import Held

Context: TypeAlias = "aio.ServicerContext[Any, Any]"


class OutgoingAnswer:
    """The answer of one call, or the stream of them."""

    __slots__ = ("_context", "_held", "_memory", "sent_bytes")

    def __init__(self, context: Context, memory: AnswerMemory) -> None:
        """Hold nothing yet."""
        self._context, self._memory = context, memory
        self._held: Held | None = None
        self.sent_bytes = 0
        """Size of what has been handed over so far."""

    async def reserve(self, tenant: str, size: int) -> None:
        """Hold enough for an answer of about so many bytes, before it is made.

        Raises:
            AnswerMemoryError: there is no room for a while.
        """
        await self._resize(tenant, (COPIES + 1) * size)

    async def send(self, tenant: str, data: bytes) -> SerializedResponse:
        """The only answer of the call, as gRPC is to be given it; it counts until it has left.

        Raises:
            AnswerMemoryError: there is no room for a while.
        """
        await self._resize(tenant, COPIES * len(data))
        self.sent_bytes += len(data)
        return SerializedResponse(data)

    async def send_next(self, tenant: str, data: bytes) -> SerializedResponse:
        """The next answer of the stream; it counts until `let_go`.

        Raises:
            AnswerMemoryError: there is no room for a while.
        """
        await self._resize(tenant, STREAM_COPIES * len(data))
        self.sent_bytes += len(data)
        return SerializedResponse(data)

    def let_go(self) -> None:
        """Hold nothing: the answer has left."""
        if self._held is not None:
            self._held.shrink(0)

    def _end(self, _: Context) -> None:
        self.let_go()

    async def _resize(self, tenant: str, size: int) -> None:
        if size <= COPIES * SMALL_BYTES:
            self.let_go()
            return
        if self._held is None:
            self._held = self._memory.hold(tenant, str(self._context.peer()))
            self._context.add_done_callback(self._end)  # type: ignore[arg-type]  # the types ask for an object
        if size > self._held.size:
            self._held.shrink(0)
            await self._held.take(size)
        self._held.shrink(size)
