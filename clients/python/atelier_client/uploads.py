"""Uploads bytes, again from the start when the connection breaks."""

from __future__ import annotations

from atelier.v1 import generation_service_pb2 as pb
from atelier_client import decoding, transfer
from atelier_client.actions import Call, Operation, call
from atelier_client.media import Artifact
from atelier_client.reconnect import ReconnectPolicy, repeat


def upload_bytes(data: bytes, media_type: str, policy: ReconnectPolicy) -> Operation[Artifact]:
    """Store bytes as an artifact; an empty media type is detected from them."""
    reconnection = policy.start(0)

    def attempt() -> Operation[Artifact]:
        parts = transfer.split_upload(
            data, media_type, on_chunk_taken=reconnection.record_connection
        )
        request = Call(method="UploadArtifact", request=parts, has_deadline=False)
        answer = yield from call(request, pb.UploadArtifactResponse)
        return decoding.artifact_from_pb(answer.artifact)

    return (yield from repeat(attempt, reconnection))
