"""What an operation asks of the client that runs it: all I/O, and the only place where clients differ.

An operation is a generator that does no I/O itself. It yields an action, and is sent the answer; the
AtelierError of an action that failed is thrown into it instead. `operations` has one for each method
of a client; `transport` and `async_transport` perform the actions, blocking and with asyncio.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from google.protobuf.message import Message

from atelier_client.errors import AtelierError

M = TypeVar("M", bound=Message)
R = TypeVar("R")
E = TypeVar("E")
Y = TypeVar("Y")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Call a method that has one answer, and send it back."""

    method: str
    """Its name in the contract, such as GetGeneration."""
    request: Message | Iterator[Message]
    """One message, or those of an upload."""
    has_deadline: bool = True
    """Whether the deadline of calls that do no work applies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStream:
    """Call a method that answers with a stream, and close the stream that was open before."""

    method: str
    """Its name in the contract, such as StreamProgress."""
    request: Message


@dataclass(frozen=True, slots=True)
class Receive:
    """Send back the next message of the open stream; None at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """Wait before the next action."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFile:
    """Send back the bytes of a file."""

    path: Path


@dataclass(frozen=True, slots=True)
class Deliver(Generic[E]):
    """Give this to the caller."""

    item: E


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """The operation has returned this."""

    result: R


Action: TypeAlias = Call | OpenStream | Receive | Sleep | ReadFile
Answer: TypeAlias = Message | bytes | None
Operation: TypeAlias = Generator[Action, Answer, R]
"""Returns what the caller gets."""
Streaming: TypeAlias = Generator[Action | Deliver[E], Answer, None]
"""Delivers what the caller gets, one item after the other."""


def resume(
    operation: Generator[Y, Answer, R], outcome: Answer | AtelierError = None
) -> Y | Done[R]:
    """Tell the operation how its action ended, and return what it asks for next."""
    try:
        if isinstance(outcome, AtelierError):
            return operation.throw(outcome)
        return operation.send(outcome)
    except StopIteration as ended:
        return Done(ended.value)


def call(request: Call, answer: type[M]) -> Operation[M]:
    """Make a call whose answer is of that type."""
    received = yield request
    if not isinstance(received, answer):
        raise TypeError(f"{request.method} was answered with {type(received).__name__}")
    return received


def receive(kind: type[M]) -> Operation[M | None]:
    """The next message of the open stream, which are of that type; None at its end."""
    received = yield Receive()
    if received is None or isinstance(received, kind):
        return received
    raise TypeError(f"the stream has sent a {type(received).__name__}")
