"""Runs every call, whichever of the four kinds it is, inside the interceptors, and holds what they know about it."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, cast

import grpc
from grpc import aio

from atelier_server.auth.caller import ANONYMOUS, Caller
from atelier_server.logs import add_log_fields
from atelier_server.rpc.answer_memory import AnswerMemory
from atelier_server.rpc.inline_outputs import SerializedResponse
from atelier_server.rpc.interceptors.errors import AcceptedGeneration, convert_error
from atelier_server.rpc.interceptors.incoming import IncomingRequest, RequestForm
from atelier_server.rpc.interceptors.outgoing import OutgoingAnswer
from atelier_server.rpc.interceptors.running_calls import RunningCall, RunningCalls
from atelier_server.rpc.request_memory import RequestMemory
from atelier_server.tracing.trace_context import find_trace

Context: TypeAlias = "aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_TRACE_HEADERS = ("traceparent", "tracestate")  # W3C Trace Context; baggage is not passed on
_DEADLINE_TOLERANCE_SECONDS = 0.25  # the way of a request
_ATTEMPTS_HEADER = "grpc-previous-rpc-attempts"  # set by gRPC's own retries and hedging
_SHORT_METHODS = frozenset(
    {
        *("GetCapabilities", "Health", "PlanGeneration", "GetGeneration", "ListGenerations"),
        *("CancelGeneration", "PauseEngine", "ResumeEngine", "ClearQueue", "Check", "List"),
    }
)
"""Calls that control or ask, and end soon. All others may last for long, and leave streams for these."""
_KINDS = {  # by (request_streaming, response_streaming)
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call in progress. An interceptor passes a changed copy on to those inside it."""

    service: str
    method: str
    request: IncomingRequest
    """Its request, which is received after the interceptors have agreed."""
    answer: OutgoingAnswer
    """Its answer, which is handed over while there is memory for it."""
    caller: Caller = ANONYMOUS
    deadline: float | None = None
    """Time of `time.monotonic` at which the caller stops waiting; None for no deadline."""
    trace_context: Mapping[str, str] = field(default_factory=dict)
    """W3C trace context of the caller, as header name to value; empty when the call is not traced."""

    repeated: bool = False
    """Whether gRPC says that it has sent this call before, as its retry policies and hedging do."""
    accepted: AcceptedGeneration = field(default_factory=AcceptedGeneration)
    """The generation of the call, once there is one."""

    def has_timed_out(self) -> bool:
        """Whether the deadline has passed; also a little earlier, for that of the caller began before ours."""
        now = time.monotonic() + _DEADLINE_TOLERANCE_SECONDS
        return self.deadline is not None and now >= self.deadline

    def remaining_seconds(self) -> float | None:
        """Time until the caller stops waiting, at least 0; None for no deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


Interceptor: TypeAlias = "Callable[[Call, Context], AbstractAsyncContextManager[Call]]"
"""Runs before and after each call; yields the call, or a changed copy, to the interceptors inside it.

What it raises, and what is raised inside it, ends the call; the caller receives the status after the outermost
interceptor has ended.
"""

_current: ContextVar[Call] = ContextVar("call")


def current_call() -> Call:
    """The call that is being handled, as the innermost interceptor yielded it.

    Raises:
        LookupError: no call is being handled here.
    """
    return _current.get()


def _describe_current() -> Mapping[str, object]:
    """What every line of the log says of the call."""
    call = _current.get()
    fields = {
        "service": call.service,
        "method": call.method,
        "tenant": call.caller.tenant,
        "request_id": call.request.request_id or call.accepted.request_id,
    }
    generation = call.accepted.generation_id
    if generation or call.trace_context:
        fields["trace"] = find_trace(call.trace_context, generation).text
    return {**fields, "generation": generation} if generation else fields


def _nest(interceptors: Sequence[Interceptor]) -> Interceptor:
    """One interceptor that runs them all, each inside the one before it."""
    outer, *others = interceptors
    if not others:
        return outer
    inner = _nest(others)

    @asynccontextmanager
    async def run_all(call: Call, context: Context) -> AsyncGenerator[Call]:
        async with outer(call, context) as passed, inner(passed, context) as last:
            yield last

    return run_all


def set_current(call: Call) -> None:
    """Let `current_call` and the lines of the log tell of this call from now on."""
    _current.set(call)
    add_log_fields(_describe_current)


class InterceptorChain(aio.ServerInterceptor):
    """Wraps every method of every service of the server in all interceptors."""

    def __init__(
        self,
        interceptors: Sequence[Interceptor],
        memory: RequestMemory,
        answers: AnswerMemory,
        *,
        max_long_calls: int | None = None,
    ) -> None:
        """Run at least one interceptor, the first as the outermost; `memory` is for requests, `answers` for answers.

        `max_long_calls` may run on one connection, None for any number.
        """
        self._intercept = _nest(interceptors)
        self._memory, self._answers = memory, answers
        self._running = RunningCalls(max_long_calls)
        self._handlers: dict[str, Handler] = {}
        self._last_sent: tuple[object, bytes] = (None, b"")

    def end_calls(self) -> None:
        """End every call that runs, and any that still comes, with the status DRAINING."""
        self._running.end_all()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The method's handler inside the interceptors; None if there is no such method."""
        path = str(handler_call_details.method)
        wrapped = self._handlers.get(path)
        if wrapped is None and (handler := await continuation(handler_call_details)) is not None:
            wrapped = self._handlers[path] = self._wrap(handler, path)
        return wrapped

    def _wrap(self, handler: Handler, path: str) -> Handler:
        _, service, method = path.split("/", 2)
        behavior = getattr(handler, _KINDS[handler.request_streaming, handler.response_streaming])
        form = RequestForm(
            method=method,
            deserialize=handler.request_deserializer or bytes,
            is_stream=handler.request_streaming,
        )
        # Services of gRPC itself, such as health, write their streams through the context and yield nothing.
        wrap = self._wrap_generator if inspect.isasyncgenfunction(behavior) else self._wrap_function
        serialize = partial(_serialize, handler.response_serializer)
        if handler.response_streaming:
            serialize = partial(self._serialize_once, serialize)
        responding = wrap(behavior, serialize, partial(self.admit, service, form))
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(responding, response_serializer=serialize)
        return grpc.stream_unary_rpc_method_handler(responding, response_serializer=serialize)

    def _serialize_once(self, serialize: Callable[[object], bytes], message: object) -> bytes:
        """Serialize a message that many streams send one after the other only for the first of them.

        Those who follow one generation all send the same event. So a message must not change after it was sent.
        """
        if isinstance(message, SerializedResponse):
            return message.data
        if message is not self._last_sent[0]:
            self._last_sent = (message, serialize(message))
        return self._last_sent[1]

    def _wrap_function(self, behavior: Any, serialize: _Serialize, admit: _Admit) -> Any:  # noqa: ANN401 (any message in and out)
        async def respond(_: object, context: Context) -> object:
            accepted = AcceptedGeneration()
            try:
                async with admit(context, accepted) as call:
                    async with aclosing(call.request):
                        # No name keeps the request: it is gone when the behaviour lets go of it.
                        answer = await behavior(await receive(call), context)
                    return None if answer is None else await _send(call, serialize(answer))
            except aio.AbortError:  # the handler has set its status itself
                raise
            except Exception as error:  # noqa: BLE001 (every error becomes a status)
                status = convert_error(error, accepted)
            return await context.abort(status.code, status.message, status.trailers)

        return respond

    def _wrap_generator(self, behavior: Any, serialize: _Serialize, admit: _Admit) -> Any:  # noqa: ANN401 (any message in and out)
        async def respond(_: object, context: Context) -> AsyncGenerator[object]:
            accepted = AcceptedGeneration()
            try:
                async with (
                    admit(context, accepted) as call,
                    aclosing(call.request),
                    aclosing(behavior(await receive(call), context)) as responses,
                ):
                    async for response in responses:
                        data = serialize(response)
                        yield await call.answer.send_next(call.caller.tenant, data)
                        call.answer.let_go()
            except aio.AbortError:  # the handler has set its status itself
                raise
            except Exception as error:  # noqa: BLE001 (every error becomes a status)
                status = convert_error(error, accepted)
            else:
                return
            await context.abort(status.code, status.message, status.trailers)

        return respond

    @asynccontextmanager
    async def admit(
        self, service: str, form: RequestForm, context: Context, accepted: AcceptedGeneration
    ) -> AsyncGenerator[Call]:
        """The call, inside all interceptors and counted; its request is received in the context, by `receive`.

        What is raised in the context passes the interceptors. `accepted` learns the generation of the call.
        """
        call = self._make_call(service, form, context, accepted)
        set_current(call)
        async with self._intercept(call, context) as changed:
            with self._count(changed, context):
                yield changed

    def _make_call(
        self, service: str, form: RequestForm, context: Context, accepted: AcceptedGeneration
    ) -> Call:
        remaining: Any = context.time_remaining()  # None without a deadline, unlike its type says
        metadata = context.invocation_metadata() or ()
        return Call(
            service=service,
            method=form.method,
            request=IncomingRequest(form, context, self._memory),
            answer=OutgoingAnswer(context, self._answers),
            accepted=accepted,
            deadline=None if remaining is None else time.monotonic() + remaining,
            trace_context={
                key: value
                for key, value in metadata
                if key in _TRACE_HEADERS and isinstance(value, str)
            },
            repeated=any(key == _ATTEMPTS_HEADER for key, _ in metadata),
        )

    def _count(self, call: Call, context: Context) -> RunningCall:
        """Count the call, which the interceptors have passed on, as long as it runs."""
        _current.set(call)
        peer = "" if call.method in _SHORT_METHODS else str(context.peer())
        return RunningCall(self._running, peer)


_Admit: TypeAlias = "Callable[[Context, AcceptedGeneration], AbstractAsyncContextManager[Call]]"
_Serialize: TypeAlias = "Callable[[object], bytes]"


async def receive(call: Call) -> object:
    """The request of an admitted call, or the stream of them."""
    return await call.request.receive(call.caller.tenant)


async def _send(call: Call, data: bytes) -> object:
    return await call.answer.send(call.caller.tenant, data)


def _serialize(serialize: Callable[[object], bytes] | None, message: object) -> bytes:
    """The bytes of a message; services without a serializer make them themselves."""
    if isinstance(message, SerializedResponse):
        return message.data
    return cast("bytes", message) if serialize is None else serialize(message)
