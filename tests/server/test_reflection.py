"""Reflection, in both of its versions, good enough to call the service without its proto files."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from tests.conftest import RunningServer

VERSIONS = ("v1", "v1alpha")
SERVICE = "atelier.v1.GenerationService"


def ask(server: RunningServer, version: str, *requests: ServerReflectionRequest) -> list[Any]:
    """The answers, in order."""
    with grpc.insecure_channel(server.address) as channel:
        call: Any = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        return list(call(iter(requests), timeout=300))


def learned(server: RunningServer, version: str, symbol: str) -> DescriptorPool:
    """All files that the symbol needs, fetched one by one."""
    pool, files = DescriptorPool(), dict[str, descriptor_pb2.FileDescriptorProto]()
    wanted = [ServerReflectionRequest(file_containing_symbol=symbol)]
    while wanted:
        (answer,) = ask(server, version, wanted.pop())
        for data in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
            files[file.name] = file
        needed = {name for file in files.values() for name in file.dependency} - files.keys()
        wanted = [ServerReflectionRequest(file_by_filename=name) for name in needed]
    for name in sorted(files, key=lambda name: len(_below(files, name))):
        pool.Add(files[name])
    return pool


def _below(files: dict[str, descriptor_pb2.FileDescriptorProto], name: str) -> set[str]:
    direct = set(files[name].dependency)
    return direct.union(*(_below(files, other) for other in direct))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_service_is_listed(server: RunningServer, version: str) -> None:
    """Ours, health, and reflection in both versions."""
    (answer,) = ask(server, version, ServerReflectionRequest(list_services=""))
    assert {service.name for service in answer.list_services_response.service} == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "symbol", [SERVICE, *(f"grpc.reflection.{v}.ServerReflection" for v in VERSIONS)]
)
def test_every_service_can_be_described(server: RunningServer, version: str, symbol: str) -> None:
    """With all messages of its calls."""
    service = learned(server, version, symbol).FindServiceByName(symbol)
    assert service.methods
    assert all(method.input_type.full_name for method in service.methods)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_service_can_be_called_from_its_description(
    server: RunningServer, version: str
) -> None:
    """With messages made from nothing but what the server said."""
    service = learned(server, version, SERVICE).FindServiceByName(SERVICE)
    method = service.methods_by_name["Generate"]
    request = message_factory.GetMessageClass(method.input_type)(
        engine="sketch", image={"prompt": "a lighthouse", "width": 64, "height": 64}
    )
    answer = message_factory.GetMessageClass(method.output_type)
    with grpc.insecure_channel(server.address) as channel:
        call: Any = channel.unary_unary(
            f"/{SERVICE}/Generate",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        made: Any = call(request, timeout=300)
    assert made.generation.outputs[0].artifact.media_type == "image/png"


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_unknown_is_answered_in_the_stream(server: RunningServer, version: str) -> None:
    """The next question is answered all the same."""
    unknown = ServerReflectionRequest(file_containing_symbol="atelier.v1.Nothing")
    known = ServerReflectionRequest(file_containing_symbol=SERVICE)
    first, second = ask(server, version, unknown, known)
    assert first.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert second.HasField("file_descriptor_response")
