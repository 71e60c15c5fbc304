"""The service can be explored and used without its proto files, JSON in and JSON out."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from atelier.v1 import generation_service_pb2
from tests.grpcurl.conftest import Grpcurl, needs_grpcurl

pytestmark = needs_grpcurl

_SERVICE = "atelier.v1.GenerationService"
_PICTURE = {"prompt": "a lighthouse", "width": 256, "height": 256, "seed": "7"}


def test_it_lists_the_services(grpcurl: Grpcurl) -> None:
    """Ours, health, and reflection in both versions."""
    assert set(grpcurl("list").text.split()) == {
        _SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def test_it_lists_the_methods(grpcurl: Grpcurl) -> None:
    """All of them, by full name."""
    service = generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"]
    methods = grpcurl("list", _SERVICE).text.split()
    assert methods == sorted(f"{_SERVICE}.{method.name}" for method in service.methods)


@pytest.mark.parametrize(
    ("symbol", "words"),
    [
        (_SERVICE, "returns ( stream .atelier.v1.StreamProgressResponse )"),
        (f"{_SERVICE}.Generate", "rpc Generate ( .atelier.v1.GenerateRequest )"),
        ("atelier.v1.ImageTask", "optional uint64 seed = 9"),
        ("atelier.v1.StreamProgressRequest", "oneof target"),
        (
            "grpc.reflection.v1.ServerReflection",
            "stream .grpc.reflection.v1.ServerReflectionResponse",
        ),
    ],
)
def test_it_describes_services_calls_and_messages(
    grpcurl: Grpcurl, symbol: str, words: str
) -> None:
    """From the server's own word."""
    described = grpcurl("describe", symbol)
    assert described.status == 0, described.error
    assert words in described.text


def test_it_generates_a_picture(grpcurl: Grpcurl) -> None:
    """The answer holds the picture that was asked for, in base64."""
    request = {"engine": "sketch", "image": _PICTURE, "inlineOutputs": True}
    made = grpcurl(f"{_SERVICE}/Generate", request=request).message()["generation"]
    assert made["state"] == "STATE_SUCCEEDED"
    (output,) = made["outputs"]
    assert output["seed"] == "7"
    assert output["artifact"]["mediaType"] == "image/png"
    with Image.open(io.BytesIO(base64.b64decode(output["data"]))) as picture:
        assert picture.size == (256, 256)


def test_it_takes_field_names_as_the_contract_spells_them(grpcurl: Grpcurl) -> None:
    """snake_case works as well as JSON's own lowerCamelCase."""
    request = {"engine": "sketch", "image": _PICTURE, "request_id": "snake", "response_mode": 2}
    made = grpcurl(f"{_SERVICE}/Generate", request=request).message()["generation"]
    assert made["requestId"] == "snake"


def test_it_follows_what_it_starts(grpcurl: Grpcurl) -> None:
    """Numbered events to the end, the last with the finished generation."""
    request = {"generate": {"engine": "sketch", "image": _PICTURE}}
    events = grpcurl(f"{_SERVICE}/StreamProgress", request=request).messages()
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert [event["state"] for event in events][:2] == ["STATE_QUEUED", "STATE_RUNNING"]
    assert events[-1]["generation"]["state"] == "STATE_SUCCEEDED"


def test_it_attaches_from_any_event_on(grpcurl: Grpcurl) -> None:
    """What was seen before is not sent again."""
    started = {"generate": {"engine": "sketch", "image": _PICTURE}}
    seen = grpcurl(f"{_SERVICE}/StreamProgress", request=started).messages()
    attach = {"generation_id": seen[0]["generationId"], "after_sequence": 3}
    assert grpcurl(f"{_SERVICE}/StreamProgress", request=attach).messages() == seen[3:]


def test_it_shows_every_detail_of_an_error(grpcurl: Grpcurl) -> None:
    """Code, message, reason and the field that is wrong."""
    request = {"engine": "sketch", "image": {**_PICTURE, "guidance": 1000}}
    refused = grpcurl(f"{_SERVICE}/Generate", request=request)
    assert refused.status == 64 + 3  # how grpcurl says INVALID_ARGUMENT
    assert "Code: InvalidArgument" in refused.error
    assert '"@type": "type.googleapis.com/google.rpc.ErrorInfo"' in refused.error
    assert '"reason": "INVALID_REQUEST"' in refused.error
    assert '"@type": "type.googleapis.com/google.rpc.BadRequest"' in refused.error
    assert '"field": "image.guidance"' in refused.error


def test_it_asks_for_health(grpcurl: Grpcurl) -> None:
    """The standard service, by engine too, and our own."""
    whole = grpcurl("grpc.health.v1.Health/Check").message()
    engine = grpcurl("grpc.health.v1.Health/Check", request={"service": "sketch"}).message()
    assert (whole, engine) == ({"status": "SERVING"}, {"status": "SERVING"})
    own = grpcurl(f"{_SERVICE}/Health").message()
    assert own["status"] == "SERVING_STATUS_SERVING"
    assert own["engines"] == [{"engine": "sketch", "state": "ENGINE_STATE_READY"}]


def test_it_uploads_and_downloads(grpcurl: Grpcurl) -> None:
    """A client stream and a server stream, bytes as base64."""
    data = b"any bytes at all"
    chunk = base64.b64encode(data).decode()
    parts = '{"header":{"media_type":"image/png"}} {"chunk":"%s"}' % chunk  # noqa: UP031 (braces)
    stored = grpcurl(f"{_SERVICE}/UploadArtifact", options=("-d", parts)).message()["artifact"]
    assert stored["size"] == str(len(data))
    request = {"artifact_id": stored["id"], "offset": 4}
    first, *rest = grpcurl(f"{_SERVICE}/DownloadArtifact", request=request).messages()
    assert first["artifact"]["sha256"] == stored["sha256"]
    assert b"".join(base64.b64decode(part["chunk"]) for part in rest) == data[4:]
