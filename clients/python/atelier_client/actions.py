"""The actions that operations ask for: all I/O, and so the only place where the clients differ.

An operation is a generator without I/O. It yields an action, and is sent the answer; if the action
fails, the AtelierError is thrown into it. `operations` has one for each method of a client. Both
clients run them, blocking or with asyncio, see `action_runner`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from google.protobuf.message import Message

from atelier_client.errors import AtelierError
from atelier_client.media import Media, Resolved

M = TypeVar("M", bound=Message)
R = TypeVar("R")
E = TypeVar("E")
Y = TypeVar("Y")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Call a unary method, and send back its response."""

    method: str
    """Its name in the contract, such as GetGeneration."""
    request: Message | Iterator[Message]
    """One message, or the messages of an upload."""
    has_deadline: bool = True
    """Whether the deadline of short calls applies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStream:
    """Call a method that returns a stream; a stream that is still open is cancelled."""

    method: str
    """Its name in the contract, such as StreamProgress."""
    request: Message


@dataclass(frozen=True, slots=True)
class AwaitHeaders:
    """Wait for the headers of the open stream; send back True if they came from an Atelier server.

    A server that sends no headers of its own is answered with False at its first message.
    """


@dataclass(frozen=True, slots=True)
class Receive:
    """Send back the next message of the open stream; None at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """Wait before the next action."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMedia:
    """Send back the bytes of media, or what names them elsewhere."""

    source: Media


@dataclass(frozen=True, slots=True)
class Deliver(Generic[E]):
    """Yield this item to the caller."""

    item: E


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """The operation has ended with this result."""

    result: R


Action: TypeAlias = Call | OpenStream | AwaitHeaders | Receive | Sleep | ReadMedia
Answer: TypeAlias = Message | Resolved | bool | None
Operation: TypeAlias = Generator[Action, Answer, R]
"""An operation that returns one result."""
Streaming: TypeAlias = Generator[Action | Deliver[E], Answer, None]
"""An operation that delivers items one after the other."""


def resume(
    operation: Generator[Y, Answer, R], outcome: Answer | AtelierError = None
) -> Y | Done[R]:
    """Send the operation the outcome of its action, and return what it asks for next."""
    try:
        if isinstance(outcome, AtelierError):
            return operation.throw(outcome)
        return operation.send(outcome)
    except StopIteration as ended:
        return Done(ended.value)


def call(request: Call, answer: type[M]) -> Operation[M]:
    """Make a call, and check the type of its response."""
    received = yield request
    if not isinstance(received, answer):
        raise TypeError(f"{request.method} returned a {type(received).__name__}")
    return received


def receive(kind: type[M]) -> Operation[M | None]:
    """The next message of the open stream, its type checked; None at the end."""
    received = yield Receive()
    if received is None or isinstance(received, kind):
        return received
    raise TypeError(f"the stream sent a {type(received).__name__}")
