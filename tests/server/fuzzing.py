"""Requests gone wrong, and what a server must say to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from hypothesis import strategies as st

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import State
from tests.conftest import RunningServer
from tests.server.calls import audio_request, image_request
from tests.server.messages import damaged, messages

SERVICE = pb.DESCRIPTOR.services_by_name["GenerationService"]
METHODS = [method.name for method in SERVICE.methods]
ENGINES = {
    "sketch": {"type": "sketch", "output_bytes": 8192, "concurrency": 16},
    "other": {"type": "sketch"},
}
"""Engines that draw nothing, so that no size takes long."""
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
    grpc.StatusCode.UNAVAILABLE,  # a queue that is full
    grpc.StatusCode.CANCELLED,  # by a queue that is cleared
}
_SHORT_SECONDS = 300.0
_IMAGE_STARTS = (
    *(b"", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff\xe0"),
    *(b"RIFF\x24\0\0\0WEBPVP8 ", b"\0\0\0\x1cftypavif"),
)


class Target:
    """The server under fire."""

    def __init__(self, server: RunningServer, channel: grpc.Channel) -> None:
        self._server = server
        self._channel = channel

    def send(self, method: str, requests: Sequence[bytes]) -> grpc.StatusCode:
        """Send the requests, and hold the server to its word about the answer; returns its code."""
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
        return code

    def repair(self) -> None:
        """Undo what requests may have done to the queues."""
        for engine in ENGINES:
            for method, request in (
                ("ResumeEngine", pb.ResumeEngineRequest(engine=engine)),
                ("ClearQueue", pb.ClearQueueRequest(engine=engine)),
            ):
                call: Any = self._channel.unary_unary(f"/{SERVICE.full_name}/{method}")
                call(request.SerializeToString(), timeout=_SHORT_SECONDS)

    def healthy(self) -> bool:
        """Whether it still answers."""
        call: Any = self._channel.unary_unary(f"/{SERVICE.full_name}/Health")
        answer = pb.HealthResponse.FromString(call(b"", timeout=300))
        return answer.status == pb.SERVING_STATUS_SERVING


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


def any_message(method: str) -> st.SearchStrategy[list[bytes]]:
    """Requests with anything in their fields."""
    return messages(SERVICE.methods_by_name[method].input_type).map(lambda one: [tamed(one)])


def good_gone_bad(method: str) -> st.SearchStrategy[list[bytes]]:
    """Valid ones with some fields changed, which get further in than arbitrary ones."""
    kind = SERVICE.methods_by_name[method].input_type
    return st.builds(
        lambda whole, changes: [merged(whole, changes)],
        st.sampled_from(valid(method)),
        messages(kind),
    )


def any_bytes(method: str) -> st.SearchStrategy[list[bytes]]:
    """Noise, and good requests with a few bytes changed."""
    good = st.sampled_from(valid(method)).map(lambda request: request.SerializeToString())
    return st.one_of(st.binary(max_size=100), good.flatmap(damaged)).map(lambda data: [data])


def any_upload() -> st.SearchStrategy[list[bytes]]:
    """A header and whatever follows it."""
    kind = SERVICE.methods_by_name["UploadArtifact"].input_type
    header = valid("UploadArtifact")[0].SerializeToString()
    return st.lists(messages(kind), max_size=4).map(
        lambda requests: [header, *(one.SerializeToString() for one in requests)]
    )


def any_attachment() -> st.SearchStrategy[list[bytes]]:
    """Bytes that begin as an image does, and go on as they like."""

    def attach(start: bytes, rest: bytes) -> list[bytes]:
        request = image_request(
            task={"mask": {"attachment": "a"}, "init_image": {"attachment": "a"}}
        )
        request.attachments["a"] = start + rest
        return [request.SerializeToString()]

    return st.builds(attach, st.sampled_from(_IMAGE_STARTS), st.binary(max_size=300))
