"""Validates requests against the constraints of the contract.

Clients get stubs without the constraints, and the server shares those stubs. So the constrained contract lies
beside this file as a descriptor set, and lives in a descriptor pool of its own.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from protovalidate import Validator, Violation

from atelier_server import errors

_validator = Validator()


def validate(message: Message) -> None:
    """Return if the message satisfies the contract. It is copied, so it must not contain large bytes.

    Raises:
        InvalidRequestError: it does not; names every invalid field.
    """
    constrained = _load_classes()[message.DESCRIPTOR.full_name].FromString(
        message.SerializeToString()
    )
    violations = _validator.collect_violations(constrained)
    if violations:
        raise errors.InvalidRequestError(
            [_convert_violation(violation) for violation in violations]
        )


@cache
def _load_classes() -> dict[str, type[Message]]:
    """The message classes with constraints, by full name."""
    contract = FileDescriptorSet.FromString(
        files("atelier_server.rpc").joinpath("contract.binpb").read_bytes()
    )
    pool = DescriptorPool()
    for file in contract.file:
        pool.AddSerializedFile(file.SerializeToString())
    names = [
        f"{file.package}.{message.name}"
        for file in contract.file
        if file.package == "atelier.v1"
        for message in file.message_type
    ]
    return {name: GetMessageClass(pool.FindMessageTypeByName(name)) for name in names}


def _convert_violation(violation: Violation) -> errors.Violation:
    path = ""
    for element in violation.proto.field.elements if violation.proto.field is not None else ():
        path += f".{element.field_name}"
        if element.subscript is not None:
            path += f"[{element.subscript.value}]"
    return errors.Violation(path.lstrip(".") or "request", violation.proto.message)
