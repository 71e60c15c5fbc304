"""The chain of interceptors: every kind of call passes it, in order, and the record of the call reaches the handler."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc import aio

from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.auth.authenticator import open_authenticator
from atelier_server.auth.caller import Caller
from atelier_server.config.security_settings import AuthSettings, KeySettings
from atelier_server.errors import ServiceError
from atelier_server.rpc.answer_memory import AnswerMemory
from atelier_server.rpc.interceptors.authenticate import Authentication
from atelier_server.rpc.interceptors.chain import (
    Call,
    Context,
    Interceptor,
    InterceptorChain,
    current_call,
)
from atelier_server.rpc.interceptors.observe import CallObserver
from atelier_server.rpc.request_memory import RequestMemory
from tests.conftest import StartServer
from tests.server.calls import Stub, image_request
from tests.server.test_auth import bearer, make_key

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Methods:
    """One method of each kind; each answers with the tenant, or fails when it is told to."""

    def __init__(self) -> None:
        self.seen: list[Call] = []
        self.closed = asyncio.Event()

    async def unary_unary(self, request: StringValue, _: Context) -> StringValue:
        """Answer once."""
        return self._answer(request)

    async def stream_unary(self, requests: AsyncIterator[StringValue], _: Context) -> StringValue:
        """Read everything, then answer once."""
        return [self._answer(request) async for request in requests][-1]

    async def unary_stream(self, request: StringValue, _: Context) -> AsyncGenerator[StringValue]:
        """Answer once, then wait for ever if the request says so."""
        try:
            yield self._answer(request)
            if request.value == "wait":
                await asyncio.Event().wait()
        finally:
            self.closed.set()

    async def stream_stream(
        self, requests: AsyncIterator[StringValue], _: Context
    ) -> AsyncGenerator[StringValue]:
        """Answer every request."""
        async for request in requests:
            yield self._answer(request)

    def _answer(self, request: StringValue) -> StringValue:
        self.seen.append(current_call())
        if request.value == "refuse":
            raise ServiceError("refused by the handler")
        if request.value == "break":
            raise RuntimeError("/srv/private/path is gone")
        return StringValue(value=current_call().caller.tenant)


@asynccontextmanager
async def serving(
    methods: Methods, interceptors: Sequence[Interceptor]
) -> AsyncIterator[aio.Channel]:
    """A connection to a server with the four methods inside the interceptors."""
    handlers = {
        kind: getattr(grpc, f"{kind}_rpc_method_handler")(
            getattr(methods, kind), StringValue.FromString, StringValue.SerializeToString
        )
        for kind in KINDS
    }
    server = aio.server(
        interceptors=[
            InterceptorChain(interceptors, RequestMemory(2**26, 2**22), AnswerMemory(2**26))
        ]
    )
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Kinds", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


async def ask(channel: aio.Channel, kind: str, text: bytes, **options: Any) -> str:  # noqa: ANN401 (of gRPC)
    """The tenant that a call of this kind is answered with; the request is sent as these bytes."""
    method = getattr(channel, kind)(
        f"/test.Kinds/{kind}", response_deserializer=StringValue.FromString
    )
    call = method(iter([text]) if kind.startswith("stream") else text, **options)
    answer = [part async for part in call][-1] if kind.endswith("stream") else await call
    return str(answer.value)


def message(text: str) -> bytes:
    """The request as it is sent."""
    return StringValue(value=text).SerializeToString()


@asynccontextmanager
async def authenticate(call: Call, context: Context) -> AsyncGenerator[Call]:
    """An authenticating interceptor: a key becomes a tenant, and without one the call is refused."""
    keys = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    if not keys:
        raise ServiceError("no key")
    caller = Caller(tenant=str(keys[0]), subject="someone", scopes=frozenset({"read"}))
    yield replace(call, caller=caller)


@pytest.mark.parametrize("kind", KINDS)
async def test_without_authentication_every_caller_is_anonymous(kind: str) -> None:
    """The chain of today; the handler finds the call."""
    methods = Methods()
    async with serving(methods, (CallObserver,)) as channel:
        assert await ask(channel, kind, message("hello")) == "anonymous"
    assert (methods.seen[0].service, methods.seen[0].method) == ("test.Kinds", kind)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_interceptor_decides_who_calls(kind: str) -> None:
    """What it yields reaches the handler; what it raises becomes the status, and the handler is not asked."""
    methods = Methods()
    async with serving(methods, (CallObserver, authenticate)) as channel:
        metadata = [("authorization", "acme")]
        assert await ask(channel, kind, message("hello"), metadata=metadata) == "acme"
        with pytest.raises(aio.AioRpcError) as failure:
            await ask(channel, kind, message("hello"))
    assert (failure.value.code(), failure.value.details()) == (grpc.StatusCode.INTERNAL, "no key")
    assert len(methods.seen) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_method_that_nobody_was_given_is_open_to_nobody(kind: str, tmp_path: Path) -> None:
    """Whoever adds one must say who may call it: until then a key with all scopes does not help."""
    secret = make_key(tmp_path / "keys.json")
    keys = AuthSettings(keys=KeySettings(file=tmp_path / "keys.json"))
    authentication = Authentication(open_authenticator(keys), frozenset())
    methods = Methods()
    async with serving(methods, (CallObserver, authentication)) as channel:
        with pytest.raises(aio.AioRpcError, match="open to nobody") as failure:
            await ask(channel, kind, message("hello"), metadata=bearer(secret))
    assert failure.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert methods.seen == []


@pytest.mark.parametrize("kind", KINDS)
async def test_interceptors_enter_in_order_and_leave_in_reverse(kind: str) -> None:
    """Also when the handler fails; each sees the error."""
    events: list[str] = []

    def recording(name: str) -> Interceptor:
        @asynccontextmanager
        async def record(call: Call, _: Context) -> AsyncGenerator[Call]:
            events.append(f"enter {name}")
            try:
                yield call
            except Exception as error:
                events.append(f"{name} sees {type(error).__name__}")
                raise
            else:
                events.append(f"leave {name}")

        return record

    chain = (recording("outer"), recording("inner"))
    async with serving(Methods(), chain) as channel:
        await ask(channel, kind, message("hello"))
        assert events == ["enter outer", "enter inner", "leave inner", "leave outer"]
        events.clear()
        with pytest.raises(aio.AioRpcError):
            await ask(channel, kind, message("refuse"))
    assert events == [
        *("enter outer", "enter inner"),
        *("inner sees ServiceError", "outer sees ServiceError"),
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_bytes_that_are_no_message_are_refused(kind: str) -> None:
    """INVALID_ARGUMENT, not gRPC's UNKNOWN, and the handler is not asked."""
    methods = Methods()
    async with serving(methods, (CallObserver,)) as channel:
        with pytest.raises(aio.AioRpcError) as failure:
            await ask(channel, kind, b"\xff\xff\xff")
    assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "not a valid message for this method" in (failure.value.details() or "")
    assert methods.seen == []


@pytest.mark.parametrize("kind", KINDS)
async def test_what_nobody_foresaw_is_not_told_to_callers(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its text may name what is inside the server; the log has it."""
    async with serving(Methods(), (CallObserver,)) as channel:
        with pytest.raises(aio.AioRpcError) as failure:
            await ask(channel, kind, message("break"))
    assert failure.value.code() == grpc.StatusCode.INTERNAL
    assert failure.value.details() == "the server failed; its log has the reason"
    assert "private" not in str(failure.value.trailing_metadata())
    assert "/srv/private/path is gone" in caplog.text


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_a_call_without_a_request_says_so(kind: str) -> None:
    """It does not wait for ever."""
    methods = Methods()
    async with serving(methods, (CallObserver,)) as channel:
        call: Any = channel.stream_stream(f"/test.Kinds/{kind}")
        with pytest.raises(aio.AioRpcError, match="request: is missing"):
            await call(iter([])).read()
    assert methods.seen == []


async def test_one_event_for_many_watchers_is_serialized_once() -> None:
    """Every stream sends the same bytes; another message, though equal, is serialized anew."""
    event, serialized, go_on = StringValue(value="step 1"), list[object](), asyncio.Event()

    def serialize(message: StringValue) -> bytes:
        serialized.append(message)
        return message.SerializeToString()

    async def watch(_request: object, _: Context) -> AsyncGenerator[StringValue]:
        yield event
        await go_on.wait()
        yield StringValue(value="of this watcher alone")

    server = aio.server(
        interceptors=[
            InterceptorChain((CallObserver,), RequestMemory(2**26, 2**22), AnswerMemory(2**26))
        ]
    )
    handler = grpc.unary_stream_rpc_method_handler(watch, StringValue.FromString, serialize)
    handlers = grpc.method_handlers_generic_handler("test.Kinds", {"unary_stream": handler})
    server.add_generic_rpc_handlers([handlers])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method: Any = channel.unary_stream("/test.Kinds/unary_stream")
        calls = [method(message("")) for _ in range(20)]
        firsts = [await call.read() for call in calls]
        assert serialized == [event]
        go_on.set()
        assert [await call.read() for call in calls] == [message("of this watcher alone")] * 20
    await server.stop(None)
    assert firsts == [message("step 1")] * 20
    assert len(serialized) == 21


async def test_the_call_holds_deadline_and_trace_context() -> None:
    """Only the headers of W3C Trace Context are taken; a call without them has neither."""
    methods = Methods()
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    metadata = [*trace.items(), ("baggage", "secret=1"), ("tracestate-x", "no")]
    async with serving(methods, (CallObserver,)) as channel:
        await ask(channel, "unary_unary", message("hello"), metadata=metadata, timeout=300)
        await ask(channel, "unary_unary", message("hello"))
    traced, plain = methods.seen
    assert dict(traced.trace_context) == trace
    # On the wire a deadline of more than 100 seconds is rounded up to whole seconds.
    assert 0 < (traced.remaining_seconds() or 0) <= 301
    assert (dict(plain.trace_context), plain.remaining_seconds()) == ({}, None)


async def test_a_caller_that_hangs_up_closes_the_handler_inside_the_interceptors() -> None:
    """The generator is closed; interceptors see that as a cancellation."""
    methods, ended = Methods(), asyncio.Event()

    @asynccontextmanager
    async def watch(call: Call, _: Context) -> AsyncGenerator[Call]:
        try:
            yield call
        except (asyncio.CancelledError, GeneratorExit):
            ended.set()
            raise

    async with serving(methods, (CallObserver, watch)) as channel:
        method: Any = channel.unary_stream("/test.Kinds/unary_stream")
        call = method(message("wait"))
        await call.read()
        call.cancel()
        await asyncio.wait_for(asyncio.gather(methods.closed.wait(), ended.wait()), 30)


async def test_tenant_and_trace_context_are_stored_with_the_generation(
    start_server: StartServer,
) -> None:
    """The worker gets them with its claim, in whichever process it runs."""
    server = start_server()
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        await stub.Generate(image_request(), metadata=list(trace.items()))
    assert server.terminate() == 0
    with closing(sqlite3.connect(server.data / "atelier.db")) as database:
        rows = database.execute("SELECT tenant, trace_context FROM generations").fetchall()
    assert [(tenant, json.loads(context)) for tenant, context in rows] == [("anonymous", trace)]
