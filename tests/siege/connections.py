"""Connections to the server, raw and of the client library, which open again by themselves."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status

from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_client import AsyncClient
from tests.server.calls import Stub

_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_retries", 0),  # callers repeat calls themselves, and note each
)
_RETRY_POLICY = {
    "maxAttempts": 5,
    "initialBackoff": "0.2s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_RETRYING = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 1),
    (
        "grpc.service_config",
        json.dumps(
            {
                "methodConfig": [
                    {
                        "name": [{"service": "atelier.v1.GenerationService"}],
                        "retryPolicy": _RETRY_POLICY,
                    }
                ]
            }
        ),
    ),
)
_MESSAGE_BYTES = ("grpc.max_receive_message_length", 64 * 2**20)
_RECONNECT_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Connections:
    """Open connections; each call takes any of them."""

    stubs: tuple[Stub, ...]
    clients: tuple[AsyncClient, ...]
    retrying: Stub
    """A raw connection that repeats calls by itself."""

    def stub(self, chance: random.Random) -> Stub:
        """A raw connection."""
        return chance.choice(self.stubs)

    def client(self, chance: random.Random) -> AsyncClient:
        """A client."""
        return chance.choice(self.clients)


@asynccontextmanager
async def connected(address: str, each: int = 4) -> AsyncGenerator[Connections]:
    """So many connections of either kind; they are closed at the end of the block."""
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                aio.insecure_channel(address, options=(*_OPTIONS, _MESSAGE_BYTES))
            )
            for _ in range(each)
        ]
        clients = [
            await stack.enter_async_context(
                AsyncClient(
                    address,
                    reconnect_timeout_seconds=_RECONNECT_SECONDS,
                    call_timeout_seconds=_RECONNECT_SECONDS,
                )
            )
            for _ in range(each)
        ]
        retrying = await stack.enter_async_context(aio.insecure_channel(address, _RETRYING))
        yield Connections(
            stubs=tuple(GenerationServiceStub(channel) for channel in channels),
            clients=tuple(clients),
            retrying=GenerationServiceStub(retrying),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a call failed."""

    code: str
    reason: str
    generation_id: str
    request_id: str
    """Under which the generation is reached; empty where the error names none."""
    text: str

    @property
    def lost(self) -> bool:
        """Whether the server is away or refuses everything, so that the call is to be repeated."""
        if self.code == "CANCELLED":  # it arrived as the server stopped, see docs/errors.md
            return not self.reason
        return self.code == "UNAVAILABLE" and self.reason in _REPEATED


_REPEATED = frozenset(
    {"", "DRAINING", "STORAGE_UNAVAILABLE", "QUEUE_FULL", "ENGINE_UNAVAILABLE", "SHUTTING_DOWN"}
)


def read_status(error: aio.AioRpcError) -> Status:
    """The status and its ErrorInfo."""
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # grpcio-status does not know asyncio's errors
    for detail in status.details if status is not None else ():
        if detail.Is(info.DESCRIPTOR):
            info.MergeFromString(detail.value)
    code: grpc.StatusCode = error.code()
    return Status(
        code=code.name,
        reason=info.reason,
        generation_id=info.metadata.get("generation_id", ""),
        request_id=info.metadata.get("request_id", ""),
        text=error.details() or "",
    )
