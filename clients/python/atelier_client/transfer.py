"""Bytes to chunks and back, with their sha256: pure, shared by both clients."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from atelier.v1 import artifact_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier_client import media
from atelier_client.errors import TransferError
from atelier_client.media import Artifact

CHUNK_BYTES = 512 * 1024
"""The most that the contract allows in one message."""


def upload_requests(data: bytes, media_type: str) -> Iterator[pb.UploadArtifactRequest]:
    """The messages of one upload; the media type is told from the bytes when empty.

    Raises:
        InvalidRequestError: the media type is empty and the bytes do not tell it.
    """
    header = artifact_pb2.UploadHeader(
        media_type=media_type or media.sniff(data),
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return _parts(header, data)


def _parts(header: artifact_pb2.UploadHeader, data: bytes) -> Iterator[pb.UploadArtifactRequest]:
    yield pb.UploadArtifactRequest(header=header)
    for start in range(0, len(data), CHUNK_BYTES):
        yield pb.UploadArtifactRequest(chunk=data[start : start + CHUNK_BYTES])


class DownloadVerifier:
    """An artifact while it arrives, over one call or several."""

    def __init__(self, artifact: Artifact | str) -> None:
        """Expect the bytes of `artifact`; of an id, what the server announces."""
        self._artifact_id = artifact if isinstance(artifact, str) else artifact.id
        self._sha256 = "" if isinstance(artifact, str) else artifact.sha256
        self._hash = hashlib.sha256()
        self._chunks: list[bytes] = []
        self.offset = 0

    def request(self) -> pb.DownloadArtifactRequest:
        """Asks for the bytes that are still missing."""
        return pb.DownloadArtifactRequest(artifact_id=self._artifact_id, offset=self.offset)

    def add(self, part: pb.DownloadArtifactResponse) -> None:
        """Take the next message."""
        if part.WhichOneof("part") == "artifact":
            self._sha256 = self._sha256 or part.artifact.sha256
            return
        self._chunks.append(part.chunk)
        self._hash.update(part.chunk)
        self.offset += len(part.chunk)

    def finish(self) -> bytes:
        """All bytes.

        Raises:
            TransferError: they are not the ones that were announced.
        """
        if self._hash.hexdigest() != self._sha256:
            raise TransferError(
                f"artifact {self._artifact_id} arrived damaged: {self.offset} bytes whose sha256"
                f" is {self._hash.hexdigest()}, not {self._sha256 or 'announced'}"
            )
        return b"".join(self._chunks)
