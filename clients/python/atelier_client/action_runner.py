"""Runs the actions of operations with gRPC; both clients share it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, assert_never

from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_client.actions import Action, AwaitHeaders, Call, OpenStream, ReadMedia, Receive, Sleep
from atelier_client.channel import Connection
from atelier_client.media import Media


@dataclass(frozen=True, slots=True, kw_only=True)
class IoFunctions:
    """The three functions that differ between blocking code and asyncio."""

    receive_headers: Callable[[Any], Any]
    """Return whether the headers of a stream came from an Atelier server."""
    receive: Callable[[Any], Any]
    """Return the next message of a stream, or None at its end."""
    sleep: Callable[[float], Any]
    """Wait for so many seconds."""
    read_media: Callable[[Media], Any]
    """Return the bytes of media, or what names them elsewhere."""


class ActionRunner:
    """Runs the actions of one operation, and owns its open stream; a context manager.

    It returns what the gRPC stub and the I/O functions return: values in blocking code, awaitables with
    asyncio. `actions.call` and `actions.receive` check their types.
    """

    def __init__(
        self,
        get_stub: Callable[[], GenerationServiceStub],
        connection: Connection,
        io_functions: IoFunctions,
    ) -> None:
        """Start without a stream; the stub is asked for before each call."""
        self._get_stub = get_stub
        self._connection = connection
        self._io_functions = io_functions
        self._stream: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cancel_stream()

    def start(self, action: Action) -> Any:  # noqa: ANN401 - a value or an awaitable of it
        """Start the action, and return its answer, or the awaitable that has it."""
        metadata = self._connection.metadata
        match action:
            case Call(method=name, request=request):
                timeout = self._connection.call_timeout_seconds if action.has_deadline else None
                return self._method(name)(request, timeout=timeout, metadata=metadata)
            case OpenStream(method=name, request=request):
                self._cancel_stream()
                self._stream = self._method(name)(request, metadata=metadata)
                return None
            case AwaitHeaders():
                return self._io_functions.receive_headers(self._stream)
            case Receive():
                return self._io_functions.receive(self._stream)
            case Sleep(seconds=seconds):
                return self._io_functions.sleep(seconds)
            case ReadMedia(source=source):
                return self._io_functions.read_media(source)
            case _:
                assert_never(action)

    def _method(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._get_stub(), name)
        return method

    def _cancel_stream(self) -> None:
        """Cancel the open stream; without effect on one that has ended."""
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None
