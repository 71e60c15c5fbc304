"""Builds the gRPC server: its options, services and interceptors; opens its port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2_grpc

from atelier.v1 import generation_service_pb2, generation_service_pb2_grpc
from atelier_engines.addresses import find_unix_path
from atelier_server.auth.authenticator import Authenticator
from atelier_server.config.limit_settings import LimitSettings
from atelier_server.config.security_settings import TenantLimits
from atelier_server.errors import AddressInUseError
from atelier_server.http_server import HttpServer
from atelier_server.rpc.answer_memory import AnswerMemory
from atelier_server.rpc.external_scaler import ExternalScaler
from atelier_server.rpc.health import Health
from atelier_server.rpc.interceptors.audit import AuditLog
from atelier_server.rpc.interceptors.authenticate import (
    OPEN_SERVICES,
    REFLECTION_SERVICES,
    Authentication,
)
from atelier_server.rpc.interceptors.call_rates import CallRates
from atelier_server.rpc.interceptors.chain import Interceptor, InterceptorChain
from atelier_server.rpc.interceptors.observe import CallObserver
from atelier_server.rpc.reflection import add_reflection
from atelier_server.rpc.request_memory import RequestMemory
from atelier_server.rpc.service import GenerationService
from atelier_server.sockets import remove_stale_socket

_MINUTE_MS = 60_000
_MAX_SCALER_CALLS = 1000  # one stream for each object that KEDA scales, and short calls
_MIN_RESERVE = 16  # streams for short calls on each connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How calls reach the server, and whose."""

    credentials: grpc.ServerCredentials | None = None
    """For TLS; plain text when None."""
    authenticator: Authenticator | None = None
    """Who may call; everybody when None."""
    reflection: Literal["callers", "everybody", "nobody"] = "callers"
    """Who may ask for the contract."""
    limits: TenantLimits = field(default_factory=TenantLimits)
    """What each tenant may use."""
    audit: Path | None = None
    """Where to write down who did what; nowhere when None."""

    def interceptors(self) -> Sequence[Interceptor]:
        """The outermost first: tracing and metrics, then authentication, then quotas."""
        found: list[Interceptor] = [CallObserver]
        if self.audit is not None:
            found.append(AuditLog(self.audit))
        if self.authenticator is not None:
            is_open = self.reflection == "everybody"
            opened = OPEN_SERVICES | (REFLECTION_SERVICES if is_open else frozenset())
            found.append(Authentication(self.authenticator, opened))
        if self.limits.limit_calls:
            found.append(CallRates(self.limits))
        return found


class _GenericHandlers:
    """Adds services to a server, but does not register their methods one by one.

    For each registered method grpc.aio has a task that waits for its next call, and every call waits for all of them:
    with our 16 methods, a fourteenth of the function calls that a generation costs on the event loop.
    Source: findings/grpc-aio-waits-for-every-registered-method.sh.
    """

    def __init__(self, server: aio.Server) -> None:
        """Add to this server."""
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """Called by generated code; the generic handlers answer these methods."""


@dataclass(frozen=True, slots=True, eq=False)
class GrpcServer:
    """The gRPC server with all services."""

    _server: aio.Server
    interceptors: InterceptorChain
    """What every call passes, over HTTP too."""
    _credentials: grpc.ServerCredentials | None

    @classmethod
    def build(
        cls,
        service: GenerationService,
        health_service: Health,
        limits: LimitSettings,
        access: Access,
    ) -> GrpcServer:
        """A server that does not listen yet."""
        interceptors = InterceptorChain(
            access.interceptors(),
            RequestMemory(limits.max_receiving_bytes, limits.max_message_bytes),
            AnswerMemory(limits.max_sending_bytes),
            max_long_calls=limits.max_concurrent_streams,
        )
        server = aio.server(interceptors=[interceptors], options=_options(limits))
        services = cast("aio.Server", _GenericHandlers(server))
        generation_service_pb2_grpc.add_GenerationServiceServicer_to_server(service, services)
        health_pb2_grpc.add_HealthServicer_to_server(health_service.servicer, services)
        contract = generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"]
        if access.reflection != "nobody":
            add_reflection(server, [contract.full_name, health.SERVICE_NAME])
        return cls(server, interceptors, access.credentials)

    def listen(self, address: str) -> str:
        """Open the port; returns the address with the actual port.

        Raises:
            AddressInUseError: something else listens there, or the address is not this machine's.
        """
        return _listen(self._server, address, self._credentials)

    async def start(self) -> None:
        """Answer calls from now on."""
        await self._server.start()

    async def stop(self, grace_seconds: float, http: HttpServer | None) -> None:
        """Take no more calls, give those that run the grace period, then end them with a status of ours.

        With `http`, the same there. The libraries cancel after another grace period what has not taken its status.
        """
        stopping = [asyncio.create_task(self._server.stop(2 * grace_seconds))]
        if http is not None:
            stopping.append(asyncio.create_task(http.stop()))
        await asyncio.wait(stopping, timeout=grace_seconds)
        self.interceptors.end_calls()
        await asyncio.gather(*stopping)


@asynccontextmanager
async def serve_scaler(
    address: str | None, scaler: ExternalScaler, credentials: grpc.ServerCredentials | None
) -> AsyncGenerator[str | None]:
    """Serve KEDA's ExternalScaler alone at the address inside the context; yields the actual address.

    Raises:
        AddressInUseError: something else listens there, or the address is not this machine's.
    """
    if address is None:
        yield None
        return
    server = aio.server(
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 2**16)],
        maximum_concurrent_rpcs=_MAX_SCALER_CALLS,
    )
    server.add_generic_rpc_handlers([scaler.make_handler()])
    actual = _listen(server, address, credentials)
    await server.start()
    try:
        yield actual
    finally:
        await server.stop(0)


@asynccontextmanager
async def serve_health(address: str | None, health_service: Health) -> AsyncGenerator[str | None]:
    """Serve grpc.health.v1 alone at the address, in plain text, inside the context; yields the actual address.

    Raises:
        AddressInUseError: something else listens there, or the address is not this machine's.
    """
    if address is None:
        yield None
        return
    server = aio.server(
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 2**16)]
    )
    health_pb2_grpc.add_HealthServicer_to_server(health_service.servicer, server)
    actual = _listen(server, address, None)
    await server.start()
    try:
        yield actual
    finally:
        await server.stop(0)


def _listen(server: aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> str:
    path = find_unix_path(address)
    if path is not None:
        remove_stale_socket(path)  # gRPC would take the path of a server that runs
    try:
        port = (
            server.add_insecure_port(address)
            if credentials is None
            else server.add_secure_port(address, credentials)
        )
    except RuntimeError as error:
        msg = f"can't listen on {address}: is another server running there?"
        raise AddressInUseError(msg) from error
    return address if path is not None else f"{address.rpartition(':')[0]}:{port}"


def _add_reserve(long_calls: int) -> int:
    """The streams of a connection on which so many calls may last for long."""
    return long_calls + max(_MIN_RESERVE, long_calls // 8)


def _options(limits: LimitSettings) -> list[tuple[str, int]]:
    return [
        # Without this, a second server on the same port would silently receive half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", -1),  # `max_inline_bytes` limits responses
        ("grpc.max_metadata_size", 16 * 2**10),
        # What is over this limit waits in the client, without a word: short calls always find a stream.
        ("grpc.max_concurrent_streams", _add_reserve(limits.max_concurrent_streams)),
        # Detects dead peers, and allows clients to ping every 10 s, as many of them do, or a little earlier.
        ("grpc.keepalive_time_ms", _MINUTE_MS),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            round(limits.min_ping_interval_seconds * 1000),
        ),
        # Closes connections from time to time so that clients find new replicas; running calls finish first.
        ("grpc.max_connection_idle_ms", 15 * _MINUTE_MS),
        ("grpc.max_connection_age_ms", 30 * _MINUTE_MS),
        ("grpc.max_connection_age_grace_ms", 60 * _MINUTE_MS),
        # How much of each call the server holds before it reads it. gRPC's own estimate, from the delay of the
        # connection, would let the other side choose.
        ("grpc.http2.lookahead_bytes", 2**18),
        ("grpc.http2.bdp_probe", 0),
    ]
