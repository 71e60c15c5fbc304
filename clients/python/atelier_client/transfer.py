"""Splits uploads into messages, and verifies downloads by their SHA-256; no I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from atelier.v1 import artifact_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier_client import media
from atelier_client.errors import TransferError
from atelier_client.media import Artifact

CHUNK_BYTES = 512 * 1024
"""Maximum chunk size of the contract."""


def split_upload(
    data: bytes, media_type: str, *, on_chunk_taken: Callable[[], None] = lambda: None
) -> Iterator[pb.UploadArtifactRequest]:
    """The messages of one upload; an empty media type is detected from the bytes.

    `on_chunk_taken` is called after each chunk that the connection has taken: it is open then.

    Raises:
        InvalidRequestError: the media type is empty and cannot be detected.
    """
    header = artifact_pb2.UploadHeader(
        media_type=media_type or media.detect_media_type(data),
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return _iterate_parts(header, data, on_chunk_taken)


def _iterate_parts(
    header: artifact_pb2.UploadHeader, data: bytes, on_chunk_taken: Callable[[], None]
) -> Iterator[pb.UploadArtifactRequest]:
    yield pb.UploadArtifactRequest(header=header)
    for start in range(0, len(data), CHUNK_BYTES):
        yield pb.UploadArtifactRequest(chunk=data[start : start + CHUNK_BYTES])
        on_chunk_taken()


class DownloadVerifier:
    """Collects the bytes of one artifact, over one or several calls, and verifies them."""

    def __init__(self, artifact: Artifact | str) -> None:
        """Expect the SHA-256 of `artifact`; for an id, the one that the server sends."""
        self._artifact_id = artifact if isinstance(artifact, str) else artifact.id
        self._sha256 = "" if isinstance(artifact, str) else artifact.sha256
        self._hash = hashlib.sha256()
        self._chunks: list[bytes] = []
        self.offset = 0

    def request(self) -> pb.DownloadArtifactRequest:
        """The request for the missing bytes."""
        return pb.DownloadArtifactRequest(artifact_id=self._artifact_id, offset=self.offset)

    def add(self, part: pb.DownloadArtifactResponse) -> None:
        """Add the next message."""
        if part.WhichOneof("part") == "artifact":
            self._sha256 = self._sha256 or part.artifact.sha256
            return
        self._chunks.append(part.chunk)
        self._hash.update(part.chunk)
        self.offset += len(part.chunk)

    def finish(self) -> bytes:
        """The bytes, verified.

        Raises:
            TransferError: their SHA-256 differs.
        """
        if self._hash.hexdigest() != self._sha256:
            raise TransferError(
                f"artifact {self._artifact_id} is damaged: the SHA-256 of {self.offset} bytes"
                f" is {self._hash.hexdigest()}, not {self._sha256 or 'known'}"
            )
        return b"".join(self._chunks)
