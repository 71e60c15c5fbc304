"""Anything at all as a request: a clear error or a good answer, never INTERNAL, never a dead server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import State
from tests.conftest import RunningServer, launch
from tests.server.calls import audio_request, image_request
from tests.server.messages import damaged, messages

SERVICE = pb.DESCRIPTOR.services_by_name["GenerationService"]
METHODS = [method.name for method in SERVICE.methods]
SECONDS = 1.0
LONGEST_SOUND = 2.0
CLEAR = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,  # what the engine is told to fail with
}
fuzzed = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Target:
    """The server under fire."""

    def __init__(self, server: RunningServer, channel: grpc.Channel) -> None:
        self._server = server
        self._channel = channel

    def send(self, method: str, requests: Sequence[bytes]) -> None:
        """Send the requests, and hold the server to its word about the answer."""
        call: Any = self._channel.stream_stream(f"/{SERVICE.full_name}/{method}")
        code: grpc.StatusCode = grpc.StatusCode.OK
        trailers: dict[str, Any] = {}
        try:
            for _ in call(iter(requests), timeout=SECONDS):
                pass
        except grpc.RpcError as error:
            failed: Any = error
            code, trailers = failed.code(), dict(failed.trailing_metadata() or ())
        assert code in CLEAR
        if code not in {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED}:
            status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
            information = error_details_pb2.ErrorInfo()
            assert status.details[0].Unpack(information)
            assert (information.domain, bool(information.reason)) == ("atelier", True)
        assert self._server.process.poll() is None

    def healthy(self) -> bool:
        """Whether it still answers."""
        call: Any = self._channel.unary_unary(f"/{SERVICE.full_name}/Health")
        answer = pb.HealthResponse.FromString(call(b"", timeout=300))
        return answer.status == pb.SERVING_STATUS_SERVING


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server whose engine draws nothing, so that no size takes long."""
    sketch = {"type": "sketch", "output_bytes": 8192, "concurrency": 16}
    engines = {"sketch": sketch, "other": {"type": "sketch"}}
    server = launch(tmp_path_factory.mktemp("fuzz"), engines=engines, log={"level": "error"})
    try:
        with grpc.insecure_channel(server.address) as channel:
            target = Target(server, channel)
            yield target
            assert target.healthy()
        assert server.log_lines() == []  # nothing that anybody can send is an error of the server's
        assert server.terminate() == 0
    finally:
        server.kill()


def tamed(request: Message) -> bytes:
    """The request, without audio that would keep this machine busy."""
    for found in _tasks(request):
        if found.audio.duration.seconds > LONGEST_SOUND:
            found.audio.duration.FromMicroseconds(100_000)
    return request.SerializeToString()


def _tasks(request: Message) -> Iterator[pb.GenerateRequest]:
    match request:
        case pb.GenerateRequest() if request.HasField("audio"):
            yield request
        case pb.StreamProgressRequest() | pb.PlanGenerationRequest():
            yield from _tasks(request.generate)
        case _:
            pass


def valid(method: str) -> list[Message]:
    """Requests that are answered."""
    generate = [
        image_request(),
        audio_request(),
        image_request(options={"font_size": 9, "fail": False}),
    ]
    header = pb.UploadArtifactRequest()
    header.header.media_type = "image/png"
    requests: dict[str, list[Message]] = {
        "Generate": [*generate],
        "StreamProgress": [pb.StreamProgressRequest(generate=one) for one in generate],
        "PlanGeneration": [pb.PlanGenerationRequest(generate=one) for one in generate],
        "GetGeneration": [pb.GetGenerationRequest(generation_id="a")],
        "CancelGeneration": [pb.CancelGenerationRequest(generation_id="a")],
        "ListGenerations": [pb.ListGenerationsRequest(page_size=3, states=[State.STATE_QUEUED])],
        "GetCapabilities": [pb.GetCapabilitiesRequest(engine="sketch")],
        "Health": [pb.HealthRequest()],
        "UploadArtifact": [header],
        "PauseEngine": [pb.PauseEngineRequest(engine="other", reason="repairs")],
        "ResumeEngine": [pb.ResumeEngineRequest(engine="other")],
        "ClearQueue": [pb.ClearQueueRequest(engine="other", reason="repairs")],
        "DownloadArtifact": [pb.DownloadArtifactRequest(artifact_id="a", offset=3)],
    }
    return requests[method]


def merged(whole: Message, changes: Message) -> bytes:
    """A valid request in which some fields are anything."""
    request = type(whole)()
    request.CopyFrom(whole)
    request.MergeFrom(changes)
    return tamed(request)


@pytest.mark.parametrize("method", METHODS)
def test_any_message_is_answered(target: Target, method: str) -> None:
    """Whatever its fields hold."""
    kind = SERVICE.methods_by_name[method].input_type

    @fuzzed
    @given(messages(kind))
    def check(request: Message) -> None:
        target.send(method, [tamed(request)])

    check()
    assert target.healthy()


@pytest.mark.parametrize("method", METHODS)
def test_a_good_request_gone_bad_is_answered(target: Target, method: str) -> None:
    """A valid one with some fields changed gets further in than an arbitrary one."""
    kind = SERVICE.methods_by_name[method].input_type

    @fuzzed
    @given(st.sampled_from(valid(method)), messages(kind))
    def check(whole: Message, changes: Message) -> None:
        target.send(method, [merged(whole, changes)])

    check()
    assert target.healthy()


@pytest.mark.parametrize("method", METHODS)
def test_any_bytes_are_answered(target: Target, method: str) -> None:
    """Noise, and good requests with a few bytes changed."""
    good = st.sampled_from(valid(method)).map(lambda request: request.SerializeToString())

    @fuzzed
    @given(st.one_of(st.binary(max_size=100), good.flatmap(damaged)))
    def check(data: bytes) -> None:
        target.send(method, [data])

    check()
    assert target.healthy()


def test_any_upload_is_answered(target: Target) -> None:
    """A header and whatever follows it."""
    kind = SERVICE.methods_by_name["UploadArtifact"].input_type
    header = valid("UploadArtifact")[0].SerializeToString()

    @fuzzed
    @given(st.lists(messages(kind), max_size=4))
    def check(requests: list[Message]) -> None:
        target.send("UploadArtifact", [header, *(one.SerializeToString() for one in requests)])

    check()
    assert target.healthy()


def test_any_attachment_is_answered(target: Target) -> None:
    """Bytes that begin as an image does, and go on as they like."""
    starts = (b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff\xe0", b"RIFF\x24\0\0\0WEBPVP8 ")

    @fuzzed
    @given(st.sampled_from(starts), st.binary(max_size=300))
    def check(start: bytes, rest: bytes) -> None:
        request = image_request(
            task={"mask": {"attachment": "a"}, "init_image": {"attachment": "a"}}
        )
        request.attachments["a"] = start + rest
        target.send("Generate", [request.SerializeToString()])

    check()
    assert target.healthy()
