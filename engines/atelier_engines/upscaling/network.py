"""Enlarges with a network, tile by tile."""

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
from atelier_engines.media import Pixels
from atelier_engines.task import Upscale
from atelier_engines.upscaling.resizing import RowResizer
from atelier_engines.upscaling.tile_stitching import TileStitcher
from atelier_engines.upscaling.tiles import Span, split_into_tiles
from atelier_engines.upscaling.upscaler import TileDone

_CPU_ALLOCATOR = "can't allocate memory"
"""Part of the RuntimeError of torch's CPU allocator, which has no class of its own."""


class Network(Protocol):
    """A loaded network for super-resolution, as spandrel describes it."""

    @property
    def scale(self) -> int:
        """How many times wider and higher its output is."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """From (1, 3, height, width) of 0 to 1 to the same, larger; in its dtype, on its device."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NetworkUpscaler:
    """See Upscaler. Grey pictures come out in red, green and blue.

    What the network's own scale does not reach or goes beyond, Lanczos' filter does afterwards.
    """

    network: Network
    """The one to use."""
    digest: str
    """SHA-256 of its weights' file, in hexadecimal."""
    tile: int
    """Side of a tile in pixels, before enlarging."""
    overlap: int
    """Pixels by which tiles overlap; at most half of `tile`."""

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the CPU."""
        return self.network.device.type == "cpu"

    def tile_count(self, width: int, height: int) -> int:
        """See Upscaler.tiles."""
        return len(self._spans(width)) * len(self._spans(height))

    def upscale(self, pixels: Pixels, factor: float) -> Generator[TileDone, None, Pixels]:
        """See Upscaler.enlarge."""
        scale, size = self.network.scale, (pixels.width, pixels.height)
        columns, rows = self._spans(size[0]), self._spans(size[1])
        mosaic = TileStitcher(columns, rows, overlap=self.overlap, scale=scale)
        enlarged = (size[0] * scale, size[1] * scale)
        resizer = RowResizer(enlarged, Upscale(factor=factor).size_of(*size))
        total = len(columns) * len(rows)
        places = product(range(len(rows)), range(len(columns)))
        for index, (row, column) in enumerate(places, start=1):
            mosaic.add(row, column, self._run(pixels, rows[row], columns[column]))
            if column == len(columns) - 1:
                resizer.add(mosaic.take_finished(row))
            yield TileDone(index=index, total=total)
        return Pixels(array=resizer.result())

    def _spans(self, length: int) -> tuple[Span, ...]:
        return split_into_tiles(length, size=self.tile, overlap=self.overlap)

    def _run(self, pixels: Pixels, rows: Span, columns: Span) -> NDArray[np.float32]:
        """The enlarged tile, (height, width, 3) of 0 to 1."""
        cut = pixels.array[rows.start : rows.stop, columns.start : columns.stop]
        if cut.shape[2] == 1:
            cut = np.repeat(cut, 3, axis=2)
        channels_first = np.ascontiguousarray(cut.transpose(2, 0, 1))[None]
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
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not (
            isinstance(error, torch.OutOfMemoryError) or _CPU_ALLOCATOR in str(error)
        ):
            msg = f"the upscaler failed on {device}: {(str(error).splitlines() or [''])[0]}"
            raise EngineFailedError(msg) from error
        msg = f"a tile of {tile} pixels does not fit into the memory of {device}; set upscale_tile lower"
        raise OutOfMemoryError(msg) from error
