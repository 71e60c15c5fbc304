"""Server reflection in both of its versions.

grpcio-reflection serves v1alpha only. v1 has the same messages under another package name, so the same servicer
answers both; v1's descriptor is made here from v1alpha's, for tools that reflect on reflection itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

_ALPHA = "grpc.reflection.v1alpha"
_STABLE = "grpc.reflection.v1"
_SERVICE = "ServerReflection"
_METHOD = "ServerReflectionInfo"


class _Reflection(ReflectionServicer):
    """Also finds methods: protobuf's descriptor pool has services as symbols, but not their methods."""

    def _file_containing_symbol(
        self, request: reflection_pb2.ServerReflectionRequest, fully_qualified_name: str
    ) -> reflection_pb2.ServerReflectionResponse:
        service, _, method = fully_qualified_name.rpartition(".")
        with contextlib.suppress(KeyError):
            if method in descriptor_pool.Default().FindServiceByName(service).methods_by_name:
                fully_qualified_name = service
        answer: reflection_pb2.ServerReflectionResponse = super()._file_containing_symbol(  # type: ignore[misc]  # grpcio-reflection has no types
            request, fully_qualified_name
        )
        return answer


def add_reflection(server: aio.Server, services: Sequence[str]) -> None:
    """Add reflection of these services, given by their full names."""
    pool = descriptor_pool.Default()
    _add_stable_descriptor(pool)
    names = (*services, f"{_ALPHA}.{_SERVICE}", f"{_STABLE}.{_SERVICE}")
    servicer = _Reflection(names, pool=pool)
    for package in (_ALPHA, _STABLE):
        handler = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        generic = grpc.method_handlers_generic_handler(f"{package}.{_SERVICE}", {_METHOD: handler})
        server.add_generic_rpc_handlers((generic,))


def _add_stable_descriptor(pool: descriptor_pool.DescriptorPool) -> None:
    alpha = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
    stable = FileDescriptorProto.FromString(alpha.SerializeToString())
    stable.name = "grpc/reflection/v1/reflection.proto"
    stable.package = _STABLE
    for message in stable.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(_ALPHA, _STABLE)
    for service in stable.service:
        for method in service.method:
            method.input_type = method.input_type.replace(_ALPHA, _STABLE)
            method.output_type = method.output_type.replace(_ALPHA, _STABLE)
    pool.AddSerializedFile(stable.SerializeToString())
