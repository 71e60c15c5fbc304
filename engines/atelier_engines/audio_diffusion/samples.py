"""From decoded pieces to the samples of a clip: exact length, and no value beyond full scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from atelier_engines.errors import EngineFailedError
from atelier_engines.media import Samples

_CHUNK_LATENTS = 128
"""Latents that are decoded at once; with a reach of 10 on either side, a sixth more work than in one piece, in
bounded memory.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Latents that are decoded together, and which of them are kept; all counted from the clip's first."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def plan_chunks(wanted: int, available: int, reach: int | None) -> Iterator[Chunk]:
    """Chunks that together give the first `wanted` of so many latents, each as if all were decoded at once.

    `reach` is how many latents on either side a sample depends on; None decodes all in one piece.
    """
    if reach is None:
        yield Chunk(start=0, stop=available, keep_start=0, keep_stop=wanted)
        return
    for start in range(0, wanted, _CHUNK_LATENTS):
        stop = min(start + _CHUNK_LATENTS, wanted)
        yield Chunk(
            start=max(0, start - reach),
            stop=min(stop + reach, available),
            keep_start=start,
            keep_stop=stop,
        )


def join(pieces: Sequence[torch.Tensor], *, frames: int) -> NDArray[np.float32]:
    """The decoded pieces of a clip of exactly so many frames, cut or continued with silence; (samples, channels).

    Args:
        pieces: each (channels, samples), in order.
        frames: samples of each channel.

    Raises:
        EngineFailedError: a sample is NaN or infinite.
    """
    made = torch.cat(list(pieces), dim=-1)[:, :frames].float().cpu()
    if not torch.isfinite(made).all():
        raise EngineFailedError(
            "the model produced NaN or infinity (an overflow); configure another precision, bfloat16 or float32"
        )
    array = np.zeros((frames, len(made)), np.float32)
    array[: made.shape[1]] = made.T.numpy()
    return array


def finish(array: NDArray[np.float32], *, rate: int) -> Samples:
    """The clip, made quieter in place where it would clip; `rate` is in hertz."""
    peak = float(np.abs(array).max())
    if peak > 1.0:
        array /= np.float32(peak)
        np.clip(array, -1.0, 1.0, out=array)
    return Samples(array=array, sample_rate=rate)
