"""Reads the headers of a task's input media for its decision, and decodes the media for its engine."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import numpy as np

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier.v1.task_pb2 import MediaSource
from atelier_engines.decoding.header import ImageHeader, UndecodableError
from atelier_engines.decoding.pixels import Background, Mode
from atelier_engines.media import Input, Pixels, Samples
from atelier_server.admission.canvas_limits import add_outpaint_mask
from atelier_server.admission.media_sources import INIT_AUDIO, list_media_sources, name_field
from atelier_server.artifacts.artifact_store import ArtifactStore
from atelier_server.artifacts.audio.reading import AudioHeader, detect_audio
from atelier_server.artifacts.decode import (
    Decoder,
    count_audio_bytes,
    count_bytes,
    count_decoded_bytes,
)
from atelier_server.errors import InvalidRequestError, NotFoundError, Violation

_MEDIA_TYPE_BY_SIGNATURE = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
}
_AVIF_SIGNATURE = b"ftypavif"  # after the four bytes of a length
_WEBP_SIGNATURE = b"WEBP"  # after those of RIFF and a length


class InputLoader:
    """Reads the images and the audio that requests name."""

    def __init__(self, artifacts: ArtifactStore, decoder: Decoder) -> None:
        """Read from `artifacts`."""
        self._artifacts = artifacts
        self._decoder = decoder

    async def outline(
        self, sources: Mapping[str, MediaSource], request: GenerateRequest, caller: str
    ) -> Mapping[str, Input]:
        """Images and audio of the right sizes without their content, which take no memory, by the path of the source.

        They are what a decision needs. Each file is read, and found to be whole; no pixel is decoded.

        Raises:
            InvalidRequestError: a source is missing or unsupported, is not a whole file, or all together would take
                more memory than there is for decoding.
            NotFoundError: an artifact is unknown.
            DataLossError: the bytes of an artifact are gone or damaged.
        """
        if INIT_AUDIO in sources:
            return {INIT_AUDIO: await self._outline_audio(sources[INIT_AUDIO], request, caller)}
        files: dict[str, _File] = {}
        decoded: dict[tuple[str, Background], _File] = {}
        outlines = {}
        for path, source in sources.items():
            key = source.artifact_id or f"attachment {source.attachment}"
            if key not in files:
                files[key] = await self._inspect(request, path, source, caller)
            outlines[path] = _make_outline(files[key].header, _mode_of(path))
            decoded[key, _background_of(path)] = files[key]
        self._require_memory(next(iter(sources)), list(decoded.values()))
        return add_outpaint_mask(request, outlines)

    @asynccontextmanager
    async def load(
        self, sources: Mapping[str, MediaSource], request: GenerateRequest, caller: str
    ) -> AsyncGenerator[Mapping[str, Input]]:
        """The images and the audio of these artifacts, decoded, by the path of the source.

        Their memory is reserved inside the context. Files of the same content are decoded once for each background.

        Raises:
            InvalidRequestError: one is of another format, or is damaged.
            NotFoundError: an artifact is unknown.
            DataLossError: the bytes of an artifact are gone or damaged.
        """
        if INIT_AUDIO in sources:
            async with self._load_audio(sources[INIT_AUDIO], caller) as audio:
                yield {INIT_AUDIO: audio}
            return
        found = {path: await self._find(path, source, caller) for path, source in sources.items()}
        distinct: defaultdict[tuple[str, Background], list[str]] = defaultdict(list)
        for path, artifact in found.items():
            distinct[artifact.sha256, _background_of(path)].append(path)
        groups = [(found[paths[0]], paths) for paths in distinct.values()]
        pixels = [(await self._read_stored(paths[0], stored)).pixels for stored, paths in groups]
        needed = count_bytes(pixels, [artifact.size for artifact, _ in groups])
        async with self._decoder.budget.reserve(needed) as reservation:
            images: dict[str, Pixels] = {}
            for artifact, paths in groups:
                images |= await self._decode(artifact, paths)
            reservation.shrink(count_decoded_bytes(pixels))
            yield add_outpaint_mask(request, images)

    async def store_attachments(self, request: GenerateRequest, caller: str) -> Sequence[str]:
        """Store the attachments as artifacts, and name these in the request instead; returns their ids."""
        ids: dict[str, str] = {}
        try:
            for source in list_media_sources(request).values():
                if source.WhichOneof("source") == "attachment":
                    name = source.attachment
                    if name not in ids:
                        ids[name] = await self._store_attachment(request, name, caller)
                    source.artifact_id = ids[name]
        except BaseException:  # no room for the next one, or the caller hung up
            await self.delete_attachments(tuple(ids.values()))
            raise
        request.ClearField("attachments")
        return tuple(ids.values())

    async def _store_attachment(self, request: GenerateRequest, name: str, caller: str) -> str:
        data = await asyncio.to_thread(request.attachments.__getitem__, name)  # a copy
        return (await self._artifacts.add(data, _detect_media_type(data), caller)).id

    async def delete_attachments(self, artifact_ids: Sequence[str]) -> None:
        """Delete what was stored for a request that was refused after all."""
        await self._artifacts.delete(artifact_ids)

    async def _outline_audio(
        self, source: MediaSource, request: GenerateRequest, caller: str
    ) -> Samples:
        if source.WhichOneof("source") == "artifact_id":
            artifact = await self._find(INIT_AUDIO, source, caller)
            header, size = await self._read_stored_audio(artifact), artifact.size
        else:
            data = await self._read_attachment(request, INIT_AUDIO, source)
            header, size = await self._read_audio_header(data), len(data)
        self._require_budget(INIT_AUDIO, count_audio_bytes(header, size))
        silence = np.broadcast_to(np.float32(0), (header.samples, header.channels))
        return Samples(array=silence, sample_rate=header.sample_rate)

    @asynccontextmanager
    async def _load_audio(self, source: MediaSource, caller: str) -> AsyncGenerator[Samples]:
        artifact = await self._find(INIT_AUDIO, source, caller)
        header = await self._read_stored_audio(artifact)
        needed = count_audio_bytes(header, artifact.size)
        async with self._decoder.budget.reserve(needed) as reservation:
            data = await self._artifacts.read(artifact)
            with _name_field(INIT_AUDIO):
                audio = await self._decoder.decode_audio(data)
            reservation.shrink(needed - artifact.size)
            yield audio

    async def _read_stored_audio(self, artifact: Artifact) -> AudioHeader:
        async with self._decoder.budget.reserve(artifact.size):
            return await self._read_audio_header(await self._artifacts.read(artifact))

    async def _read_audio_header(self, data: bytes) -> AudioHeader:
        with _name_field(INIT_AUDIO):
            return await self._decoder.read_audio_header(data)

    async def _inspect(
        self, request: GenerateRequest, path: str, source: MediaSource, caller: str
    ) -> _File:
        if source.WhichOneof("source") == "artifact_id":
            artifact = await self._find(path, source, caller)
            return _File(header=await self._read_stored(path, artifact), size=artifact.size)
        data = await self._read_attachment(request, path, source)
        return _File(header=await self._read_header(path, data), size=len(data))

    async def _read_attachment(
        self, request: GenerateRequest, path: str, source: MediaSource
    ) -> bytes:
        """The bytes of an attachment.

        Raises:
            InvalidRequestError: there is none of that name, or the source is of another kind.
        """
        field = name_field(path)
        match source.WhichOneof("source"):
            case "attachment":
                name = source.attachment
                if name not in request.attachments:
                    message = f"the request has no attachment {name!r}"
                    raise InvalidRequestError([Violation(f"{field}.attachment", message)])
                return await asyncio.to_thread(request.attachments.__getitem__, name)  # a copy
            case "uri":
                message = "this server does not fetch URIs; upload the file or attach it"
                raise InvalidRequestError([Violation(f"{field}.uri", message)])
            case _:
                raise InvalidRequestError(
                    [Violation(field, "give a source: attachment or artifact_id")]
                )

    async def _find(self, path: str, source: MediaSource, caller: str) -> Artifact:
        try:
            return await self._artifacts.find(source.artifact_id, caller)
        except NotFoundError as error:
            msg = f"{name_field(path)}.artifact_id: {error}"
            raise NotFoundError(msg) from error

    async def _read_header(self, path: str, data: bytes) -> ImageHeader:
        with _name_field(path):
            return await self._decoder.read_header(data)

    def _require_memory(self, path: str, files: Sequence[_File]) -> None:
        needed = count_bytes([file.header.pixels for file in files], [file.size for file in files])
        self._require_budget(path, needed)

    def _require_budget(self, path: str, needed: int) -> None:
        if needed > self._decoder.budget.max_bytes:
            kind, advice = (
                ("audio", "less") if path == INIT_AUDIO else ("images", "fewer or smaller")
            )
            message = (
                f"the input {kind} would take {needed} bytes while decoded, and this server has "
                f"{self._decoder.budget.max_bytes} for that: send {advice} {kind}"
            )
            raise InvalidRequestError([Violation(name_field(path), message)])

    async def _read_stored(self, path: str, artifact: Artifact) -> ImageHeader:
        """The header in the file of an artifact, whose record has only the size that the file states."""
        async with self._decoder.budget.reserve(artifact.size):
            return await self._read_header(path, await self._artifacts.read(artifact))

    async def _decode(self, artifact: Artifact, paths: Sequence[str]) -> dict[str, Pixels]:
        modes = {path: _mode_of(path) for path in paths}
        data = await self._artifacts.read(artifact)
        with _name_field(paths[0]):
            decoded = await self._decoder.decode(
                data, sorted(set(modes.values())), _background_of(paths[0])
            )
        return {path: decoded[mode] for path, mode in modes.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    header: ImageHeader
    size: int
    """Bytes."""


@contextmanager
def _name_field(path: str) -> Generator[None]:
    """Turn an UndecodableError into an error that names the field of the request."""
    try:
        yield
    except UndecodableError as error:
        raise InvalidRequestError([Violation(name_field(path), str(error))]) from error


def _mode_of(path: str) -> Mode:
    return "L" if path == "mask" else "RGB"


def _background_of(path: str) -> Background:
    """What is behind transparent parts: black in control maps, where it says nothing, else white."""
    return "black" if path.startswith("controls") else "white"


def _make_outline(header: ImageHeader, mode: Mode) -> Pixels:
    """Black pixels, all of which are the same byte of memory."""
    width, height = header.size
    channels = 1 if mode == "L" else 3
    return Pixels(array=np.broadcast_to(np.uint8(0), (height, width, channels)))


def _detect_media_type(data: bytes) -> str:
    if data[4:12] == _AVIF_SIGNATURE:
        return "image/avif"
    if data[8:12] == _WEBP_SIGNATURE:
        return "image/webp"
    found = next(
        (name for start, name in _MEDIA_TYPE_BY_SIGNATURE.items() if data.startswith(start)), None
    )
    return found or detect_audio(data) or "application/octet-stream"
