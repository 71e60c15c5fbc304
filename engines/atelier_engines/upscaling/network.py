"""Upscales with a super-resolution model, tile by tile."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from atelier_engines.errors import EngineFailedError, OutOfMemoryError
from atelier_engines.local import errors
from atelier_engines.media import Pixels
from atelier_engines.task import Upscale
from atelier_engines.upscaling.resizing import RowResizer
from atelier_engines.upscaling.tile_stitching import TileStitcher
from atelier_engines.upscaling.tiles import Span, split_into_tiles
from atelier_engines.upscaling.upscaler import TileDone


class Network(Protocol):
    """A loaded super-resolution model, as spandrel describes it."""

    @property
    def scale(self) -> int:
        """Factor of its output's width and height."""

    @property
    def device(self) -> torch.device:
        """Device of its weights."""

    @property
    def dtype(self) -> torch.dtype:
        """Data type of its weights."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Upscale (1, 3, height, width) of 0 to 1, in its dtype and on its device."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NetworkUpscaler:
    """Upscales with a model, see Upscaler. Greyscale images become RGB.

    The Lanczos filter resizes from the model's own scale to the requested factor.
    """

    network: Network
    """The model to use."""
    digest: str
    """SHA-256 of its weights' file, in hexadecimal."""
    tile: int
    """Side of a tile in pixels, before upscaling."""
    overlap: int
    """Pixels by which tiles overlap; at most half of `tile`."""

    @property
    def on_cpu(self) -> bool:
        """Whether it runs on the CPU."""
        return self.network.device.type == "cpu"

    def tile_count(self, width: int, height: int) -> int:
        """See Upscaler.tile_count."""
        return len(self._spans(width)) * len(self._spans(height))

    def upscale(self, pixels: Pixels, factor: float) -> Generator[TileDone, None, Pixels]:
        """See Upscaler.upscale."""
        scale, size = self.network.scale, (pixels.width, pixels.height)
        columns, rows = self._spans(size[0]), self._spans(size[1])
        stitcher = TileStitcher(columns, rows, overlap=self.overlap, scale=scale)
        upscaled = (size[0] * scale, size[1] * scale)
        resizer = RowResizer(upscaled, Upscale(factor=factor).size_of(*size))
        total = len(columns) * len(rows)
        positions = product(range(len(rows)), range(len(columns)))
        for index, (row, column) in enumerate(positions, start=1):
            stitcher.add(row, column, self._run(pixels, rows[row], columns[column]))
            if column == len(columns) - 1:
                resizer.add(stitcher.take_finished(row))
            yield TileDone(index=index, total=total)
        return Pixels(array=resizer.result())

    def _spans(self, length: int) -> tuple[Span, ...]:
        return split_into_tiles(length, size=self.tile, overlap=self.overlap)

    def _run(self, pixels: Pixels, rows: Span, columns: Span) -> NDArray[np.float32]:
        """Upscale one tile; (height, width, 3) of 0 to 1."""
        tile = pixels.array[rows.start : rows.stop, columns.start : columns.stop]
        if tile.shape[2] == 1:
            tile = np.repeat(tile, 3, axis=2)
        channels_first = np.ascontiguousarray(tile.transpose(2, 0, 1))[None]
        device, dtype = self.network.device, self.network.dtype
        with _translate_errors(device, self.tile), torch.inference_mode():
            seen = torch.from_numpy(channels_first).to(device).float() / 255.0
            made = self.network(seen.to(dtype))[0].float().permute(1, 2, 0).cpu()
        result: NDArray[np.float32] = made.numpy()
        return result


@contextmanager
def _translate_errors(device: torch.device, tile: int) -> Iterator[None]:
    """Translate what torch raises."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if errors.is_out_of_memory(error):
            raise OutOfMemoryError(
                f"a tile of {tile} pixels does not fit into the memory of {device}; set a smaller upscale_tile"
            ) from error
        raise EngineFailedError(
            f"the upscaler failed on {device}: {errors.first_line(error)}"
        ) from error
