"""Writes copies of outputs under readable names."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from atelier.v1.generation_pb2 import Generation, Output
from atelier_server.artifacts.sidecar import build_sidecar
from atelier_server.config.settings import ExportSettings, StyleSettings

_SHORT_ID_LENGTH = 8
_EXTENSIONS = {"image/jpeg": "jpg", "audio/ogg": "ogg", "audio/mpeg": "mp3"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputExporter:
    """Writes each output to the path that the template gives it in the directory."""

    settings: ExportSettings
    styles: dict[str, StyleSettings]

    async def export(self, generation: Generation, output: Output, index: int, data: bytes) -> Path:
        """Write the bytes of the output with this index; returns the path of the file.

        Raises:
            OSError: the file cannot be written.
        """
        path = self.settings.directory / self._format_path(generation, output, index)
        await asyncio.to_thread(_write, path, data)
        if self.settings.sidecar:
            record = build_sidecar(generation, output, self.styles)
            await asyncio.to_thread(_write, path.with_name(f"{path.name}.json"), record)
        return path

    def _format_path(self, generation: Generation, output: Output, index: int) -> str:
        style = generation.image.style
        media_type = output.artifact.media_type
        return self.settings.template.format(
            style_id=_slugify(style) or "none",
            style_title=_slugify(self.styles[style].title if style in self.styles else "")
            or "untitled",
            engine=_slugify(generation.engine),
            utc=generation.create_time.ToDatetime().strftime("%Y%m%d_%H%M%S"),
            id=generation.id,
            short_id=generation.id[-_SHORT_ID_LENGTH:],
            request_id=_to_file_name(generation.request_id),
            index=index,
            seed=output.seed,
            ext=_EXTENSIONS.get(media_type, media_type.rpartition("/")[2]),
        )


def _slugify(text: str) -> str:
    """The text as a part of a file name: lower case, without characters that shells or paths interpret."""
    return re.sub(r"[^a-z0-9-]+", "_", text.lower()).strip("_")


def _to_file_name(request_id: str) -> str:
    """The request id, which its caller chose, as a part of a file name: neither hidden nor leading elsewhere."""
    return re.sub(r"[^A-Za-z0-9._-]|^[.]", "_", request_id)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
