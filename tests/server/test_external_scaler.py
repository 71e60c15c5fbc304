"""KEDA's external scaler, asked by a gRPC client that knows nothing of Atelier."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.estimates.work_seconds import UNKNOWN_SECONDS
from tests.certificates import Authority
from tests.conftest import RunningServer, StartServer, free_port, launch
from tests.resilience.follower import wait_until
from tests.server.calls import Stub, on_acceptance, slow_request
from tests.server.test_metrics import key, samples

_TEXT, _LONG, _DOUBLE, _BOOL, _MESSAGE = (
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE,
    descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
)
_MESSAGES: dict[str, dict[str, tuple[int, Any, str]]] = {
    # As KEDA's own file has them: names, numbers, types. A leading `*` says that there may be several.
    "MetadataEntry": {"key": (1, _TEXT, ""), "value": (2, _TEXT, "")},
    "ScaledObjectRef": {
        "name": (1, _TEXT, ""),
        "namespace": (2, _TEXT, ""),
        "scalerMetadata": (3, _MESSAGE, "*MetadataEntry"),
    },
    "IsActiveResponse": {"result": (1, _BOOL, "")},
    "MetricSpec": {
        "metricName": (1, _TEXT, ""),
        "targetSize": (2, _LONG, ""),
        "targetSizeFloat": (3, _DOUBLE, ""),
    },
    "GetMetricSpecResponse": {"metricSpecs": (1, _MESSAGE, "*MetricSpec")},
    "GetMetricsRequest": {
        "scaledObjectRef": (1, _MESSAGE, "ScaledObjectRef"),
        "metricName": (2, _TEXT, ""),
    },
    "MetricValue": {
        "metricName": (1, _TEXT, ""),
        "metricValue": (2, _LONG, ""),
        "metricValueFloat": (3, _DOUBLE, ""),
    },
    "GetMetricsResponse": {"metricValues": (1, _MESSAGE, "*MetricValue")},
}


def _make_messages() -> dict[str, Any]:
    """The messages of a KEDA, in a pool of their own."""
    file = descriptor_pb2.FileDescriptorProto(name="keda.proto", package="keda", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, of) in fields.items():
            label = "LABEL_REPEATED" if of.startswith("*") else "LABEL_OPTIONAL"
            added = message.field.add(name=field, number=number, type=kind)
            added.label = descriptor_pb2.FieldDescriptorProto.Label.Value(label)
            if of:
                added.type_name = f".keda.{of.lstrip('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"keda.{name}"))
        for name in _MESSAGES
    }


KEDA = _make_messages()


class Scaler:
    """Calls the methods as KEDA does."""

    def __init__(self, channel: aio.Channel, **metadata: str) -> None:
        """Ask for an object whose trigger has this metadata."""
        self._channel = channel
        self.ref = KEDA["ScaledObjectRef"](
            name="workers",
            namespace="media",
            scalerMetadata=[
                KEDA["MetadataEntry"](key=name, value=value) for name, value in metadata.items()
            ],
        )

    async def is_active(self) -> bool:
        """IsActive."""
        return bool((await self._call("IsActive", self.ref, "IsActiveResponse")).result)

    def stream_is_active(self) -> AsyncIterator[Any]:
        """StreamIsActive."""
        method = self._channel.unary_stream(
            "/externalscaler.ExternalScaler/StreamIsActive",
            request_serializer=KEDA["ScaledObjectRef"].SerializeToString,
            response_deserializer=KEDA["IsActiveResponse"].FromString,
        )
        return aiter(method(self.ref))

    async def find_spec(self) -> Any:  # noqa: ANN401 (a message)
        """GetMetricSpec; the only one."""
        answer = await self._call("GetMetricSpec", self.ref, "GetMetricSpecResponse")
        (spec,) = answer.metricSpecs
        return spec

    async def measure(self, metric: str) -> tuple[int, float]:
        """GetMetrics; the values of the only one, as both types."""
        request = KEDA["GetMetricsRequest"](scaledObjectRef=self.ref, metricName=metric)
        (value,) = (await self._call("GetMetrics", request, "GetMetricsResponse")).metricValues
        assert value.metricName == metric
        return value.metricValue, value.metricValueFloat

    async def _call(self, method: str, request: Any, answer: str) -> Any:  # noqa: ANN401 (messages)
        call = self._channel.unary_unary(
            f"/externalscaler.ExternalScaler/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=KEDA[answer].FromString,
        )
        return await call(request)


@asynccontextmanager
async def open_stub(server: RunningServer) -> AsyncGenerator[Stub]:
    """The server's own calls."""
    async with aio.insecure_channel(server.address) as channel:
        yield GenerationServiceStub(channel)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, str]]:
    """A server with two engines, and where it answers KEDA."""
    address = f"127.0.0.1:{free_port()}"
    engines = {"sketch": {"type": "sketch"}, "other": {"type": "sketch"}}
    server = launch(tmp_path_factory.mktemp("scaled"), engines=engines, scaler_listen=address)
    yield server, address
    server.kill()


async def test_the_backlog_scales_servers(
    address: tuple[RunningServer, str],
) -> None:
    """Without work there is none; then what waits and runs counts, of one engine or of all; whoever streams is told."""
    server, scaler_address = address
    async with open_stub(server) as stub, aio.insecure_channel(scaler_address) as channel:
        scaler, other = Scaler(channel), Scaler(channel, engine="other", targetSeconds="7.5")
        assert await scaler.is_active() is False
        stream = scaler.stream_is_active()
        assert (await anext(stream)).result is False
        spec = await scaler.find_spec()
        assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == (
            "backlog_seconds",
            60,
            60.0,
        )
        spec = await other.find_spec()
        assert (spec.targetSize, spec.targetSizeFloat) == (8, 7.5)
        accepted = [await stub.Generate(on_acceptance(slow_request())) for _ in range(3)]
        assert (await anext(stream)).result is True
        assert await scaler.is_active() is True
        unknown = 3 * UNKNOWN_SECONDS
        expected = (int(unknown), unknown)
        await wait_until(lambda: _measures(scaler, expected))
        assert await other.measure(spec.metricName) == (0, 0.0)
        assert await other.is_active() is False
        await _exports(server, unknown)
        for each in accepted:
            request = pb.CancelGenerationRequest(generation_id=each.generation.id)
            await stub.CancelGeneration(request)
        assert (await anext(stream)).result is False


async def _measures(scaler: Scaler, expected: tuple[int, float]) -> bool:
    """What was read before is up to a second old."""
    return await scaler.measure("backlog_seconds") == expected


async def _exports(server: RunningServer, seconds: float) -> None:
    """Ends when the server exports these seconds."""

    async def shows() -> bool:
        found = await asyncio.to_thread(samples, server)
        shown = [
            found.get(key("atelier_shared_backlog_seconds", engine=engine))
            for engine in ("sketch", "other")
        ]
        return shown == [seconds, 0.0]

    await wait_until(shows)


async def test_what_has_ended_says_how_long_the_rest_takes(
    address: tuple[RunningServer, str],
) -> None:
    """By its cost units: twice the steps take twice the time."""
    server, scaler_address = address
    async with open_stub(server) as stub, aio.insecure_channel(scaler_address) as channel:
        first = await stub.Generate(slow_request(0.2, steps=10))
        took = sum(each.duration.ToMicroseconds() for each in first.generation.receipt.timings)
        request = on_acceptance(slow_request(steps=20))
        accepted = (await stub.Generate(request)).generation
        expected = pytest.approx(2 * took / 1e6, rel=1e-4)

        async def is_found() -> bool:  # what was read before is up to a second old
            return bool((await Scaler(channel).measure("backlog_seconds"))[1] == expected)

        await wait_until(is_found)
        await stub.CancelGeneration(pb.CancelGenerationRequest(generation_id=accepted.id))


@pytest.mark.parametrize("given", ["soon", "0", "-1", "nan", "inf"])
async def test_a_wrong_target_is_refused(address: tuple[RunningServer, str], given: str) -> None:
    """With what it must be."""
    async with aio.insecure_channel(address[1]) as channel:
        with pytest.raises(aio.AioRpcError) as refused:
            await Scaler(channel, targetSeconds=given).find_spec()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert f"targetSeconds is {given!r}; it must be a number" in (refused.value.details() or "")


async def test_a_metric_that_there_is_not_is_refused(address: tuple[RunningServer, str]) -> None:
    """With the name of the one that there is."""
    async with aio.insecure_channel(address[1]) as channel:
        with pytest.raises(aio.AioRpcError) as refused:
            await Scaler(channel).measure("s0-other")
    assert "there is backlog_seconds" in (refused.value.details() or "")


async def test_with_tls_keda_shows_a_certificate(start_server: StartServer, tmp_path: Path) -> None:
    """Where callers must: it can send no key. Who shows none gets no answer."""
    authority = Authority()
    address = f"127.0.0.1:{free_port()}"
    tls = {**authority.issue().write(tmp_path / "tls"), "client_certificates": "required"}
    tls["client_ca"] = authority.write(tmp_path / "tls")
    start_server(tls=tls, scaler_listen=address)
    keda = authority.credentials(authority.issue())
    async with aio.secure_channel(address, keda) as channel:
        assert await Scaler(channel).is_active() is False
    async with aio.secure_channel(address, authority.credentials()) as channel:
        with pytest.raises(aio.AioRpcError) as refused:
            await Scaler(channel).is_active()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
