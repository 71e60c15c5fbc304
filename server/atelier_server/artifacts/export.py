"""Files outputs a second time, under names that people read."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from atelier.v1.generation_pb2 import Generation, Output
from atelier_server.config.settings import ExportSettings, StyleSettings

_SHORT_ID = 8
_EXTENSIONS = {"image/jpeg": "jpg", "audio/ogg": "ogg"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputExporter:
    """Puts outputs under `directory`, each at the path that the template makes for it."""

    settings: ExportSettings
    styles: dict[str, StyleSettings]

    async def export(self, generation: Generation, output: Output, index: int, blob: Path) -> Path:
        """Link the output's bytes (or copy them, on another disk); returns where they lie now.

        Raises:
            OSError: the directory can't be written.
        """
        path = self.settings.directory.expanduser() / self._name(generation, output, index)
        await asyncio.to_thread(_link, blob, path)
        return path

    def _name(self, generation: Generation, output: Output, index: int) -> str:
        style = generation.image.style
        media_type = output.artifact.media_type
        return self.settings.template.format(
            style_id=_plain(style) or "none",
            style_title=_plain(self.styles[style].title if style in self.styles else "")
            or "untitled",
            engine=_plain(generation.engine),
            utc=generation.create_time.ToDatetime().strftime("%Y%m%d_%H%M%S"),
            id=generation.id,
            short_id=generation.id[-_SHORT_ID:],
            index=index,
            seed=output.seed,
            ext=_EXTENSIONS.get(media_type, media_type.rpartition("/")[2]),
        )


def _plain(text: str) -> str:
    """The text as a part of a file name: lower case, and nothing that means something to a shell or a path."""
    return re.sub(r"[^a-z0-9-]+", "_", text.lower()).strip("_")


def _link(blob: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        os.link(blob, path)
    except OSError:  # another disk, or one without links
        shutil.copyfile(blob, path)
