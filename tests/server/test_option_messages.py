"""Errors of options name what is allowed."""

from __future__ import annotations

import grpc
import pytest

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1 import task_pb2
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_engines.capabilities import Capabilities, ImageCapabilities, IntegerRange
from atelier_engines.task import JSON, ImageTask
from atelier_server.admission.options import find_option_violations
from atelier_server.admission.route import Resolved
from atelier_server.admission.router import Router
from atelier_server.engines.status import EngineStatus, EngineStatuses
from atelier_server.errors import InvalidRequestError
from tests.conftest import RunningServer

_COLOURS = {"enum": ["red", "blue"], "type": "string"}
_SCHEMA = {
    "$defs": {"Colour": _COLOURS},
    "properties": {
        "colour": {"anyOf": [{"$ref": "#/$defs/Colour"}, {"type": "null"}]},
        "size": {"anyOf": [{"type": "integer", "minimum": 6, "maximum": 9}, {"const": "auto"}]},
        "nested": {"type": "object", "properties": {}, "additionalProperties": False},
        "tagged": {
            "type": "object",
            "patternProperties": {"^x-": {}},
            "additionalProperties": False,
        },
    },
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({"colour": 3}, "options.colour", 'must be "red" or "blue" or null, not 3'),
        (
            {"size": []},
            "options.size",
            'must be an integer of at least 6 and of at most 9 or "auto", not []',
        ),
        ({"shape": 1}, "options", "has no 'shape'; it has colour, nested, size, tagged"),
        ({"size": 99}, "options.size", "99 is greater than the maximum of 9"),
        ({"tagged": {"a": 1}}, "options.tagged", "'a' does not match any of the regexes: '^x-'"),
        ({"nested": {"a": 1}}, "options.nested", "has no 'a'; it has no fields"),
    ],
)
def test_a_violation_names_what_is_allowed(
    options: dict[str, object], field: str, message: str
) -> None:
    """Alternatives, bounds, and the names of the options."""
    (violation,) = find_option_violations(_SCHEMA, options)  # type: ignore[arg-type]  # also values that no option may have
    assert (violation.field, violation.message) == (field, message)


def test_an_option_that_must_be_given_is_missed_at_once() -> None:
    """Also where the request has no options at all."""
    schema: dict[str, JSON] = {"properties": {"colour": {"type": "string"}}, "required": ["colour"]}
    sizes = IntegerRange(min=64, max=4096, default=512)
    images = ImageCapabilities(width=sizes, height=sizes, max_pixels=4096**2)
    able = Capabilities(description="a test", image=images, options_schema=schema)
    statuses = EngineStatuses()
    statuses.publish(EngineStatus(name="one", type="test", capabilities=able, queue_limit=9))
    task = ImageTask(prompt="a cat", width=64, height=64, seeds=(1,))
    with pytest.raises(InvalidRequestError, match="colour"):
        Router(statuses, "one").route(statuses["one"], lambda _: Resolved(task=task, parameters=()))


def test_the_caller_reads_what_is_allowed(server: RunningServer) -> None:
    """In the text of the status of a call."""
    request = pb.GenerateRequest(engine="sketch", image=task_pb2.ImageTask(prompt="a lamp"))
    request.options.update({"delay_seconds": "a"})
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as refused:
        GenerationServiceStub(channel).Generate(request)
    details = str(refused.value)
    assert "a number of at least 0 and of at most 3600 or null" in details
