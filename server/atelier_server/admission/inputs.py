"""Reads and decodes the input images of a task."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier.v1.task_pb2 import MediaSource
from atelier_engines.media import Pixels
from atelier_server.admission.image_task import list_image_sources
from atelier_server.artifacts.artifact_store import ArtifactStore
from atelier_server.artifacts.decode import UndecodableError, decode_image
from atelier_server.errors import InvalidRequestError, NotFoundError, Violation

_MEDIA_TYPE_BY_SIGNATURE = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"RIFF": "image/webp",
}
_AVIF_SIGNATURE = b"ftypavif"  # after the four bytes of a length


class InputLoader:
    """Reads the images that requests name."""

    def __init__(self, artifacts: ArtifactStore, *, max_pixels: int) -> None:
        """Read from `artifacts`; reject images of more than `max_pixels`."""
        self._artifacts = artifacts
        self._max_pixels = max_pixels

    async def load(
        self, sources: Mapping[str, MediaSource], request: GenerateRequest, caller: str
    ) -> Mapping[str, Pixels]:
        """The images of these sources of the request, decoded, by the path of the source.

        Raises:
            InvalidRequestError: a source is missing or unsupported, or is not an image.
            NotFoundError: an artifact is unknown.
            DataLossError: the bytes of an artifact are gone or damaged.
        """
        images = {}
        for path, source in sources.items():
            data = await self._read_source(request, path, source, caller)
            try:
                images[path] = await asyncio.to_thread(
                    decode_image, data, max_pixels=self._max_pixels, grey=path == "mask"
                )
            except UndecodableError as error:
                raise InvalidRequestError([Violation(f"image.{path}", str(error))]) from error
        return images

    async def store_attachments(self, request: GenerateRequest, caller: str) -> Sequence[str]:
        """Store the attachments as artifacts, and name these in the request instead; returns their ids."""
        if not request.attachments:
            return ()
        ids: dict[str, str] = {}
        for source in list_image_sources(request).values():
            if source.WhichOneof("source") == "attachment":
                name = source.attachment
                if name not in ids:
                    data = request.attachments[name]
                    ids[name] = (
                        await self._artifacts.add(data, _detect_media_type(data), caller)
                    ).id
                source.artifact_id = ids[name]
        request.ClearField("attachments")
        return tuple(ids.values())

    async def delete_attachments(self, artifact_ids: Sequence[str]) -> None:
        """Delete what was stored for a request that was refused after all."""
        await self._artifacts.delete(artifact_ids)

    async def _read_source(
        self, request: GenerateRequest, path: str, source: MediaSource, caller: str
    ) -> bytes:
        match source.WhichOneof("source"):
            case "artifact_id":
                try:
                    return await self._artifacts.read(source.artifact_id, caller)
                except NotFoundError as error:
                    msg = f"image.{path}.artifact_id: {error}"
                    raise NotFoundError(msg) from error
            case "attachment":
                if source.attachment not in request.attachments:
                    message = f"the request has no attachment {source.attachment!r}"
                    raise InvalidRequestError([Violation(f"image.{path}.attachment", message)])
                return request.attachments[source.attachment]
            case "uri":
                message = "this server does not fetch URIs; upload the image or attach it"
                raise InvalidRequestError([Violation(f"image.{path}.uri", message)])
            case None:
                raise InvalidRequestError(
                    [Violation(f"image.{path}", "give a source: attachment or artifact_id")]
                )


def _detect_media_type(data: bytes) -> str:
    if data[4:12] == _AVIF_SIGNATURE:
        return "image/avif"
    return next(
        (name for start, name in _MEDIA_TYPE_BY_SIGNATURE.items() if data.startswith(start)),
        "application/octet-stream",
    )
