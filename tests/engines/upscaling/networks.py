"""Small networks with random weights, saved as their makers save them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact
from spandrel.architectures.ESRGAN import ESRGAN

from atelier_engines.media import Pixels
from atelier_engines.upscaling import weights
from atelier_engines.upscaling.config import UpscalerSettings
from atelier_engines.upscaling.network import NetworkUpscaler
from atelier_engines.upscaling.upscaler import TileDone, Upscaler


def compact(folder: Path, *, scale: int = 2, channels: int = 3) -> Path:
    """Four layers that look six pixels far, added to the picture."""
    torch.manual_seed(0)
    network = Compact(
        num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=4, upscale=scale
    )
    return _saved(network, folder / f"compact-{scale}x{channels}.safetensors")


def rrdb(folder: Path, *, scale: int = 4) -> Path:
    """ESRGAN's own architecture with one block of fifteen layers, with values all over the range."""
    torch.manual_seed(0)
    network = ESRGAN(num_filters=8, num_blocks=1, scale=scale)
    last = next(part for part in reversed(list(network.modules())) if hasattr(part, "bias"))
    with torch.no_grad():
        last.weight *= 8.0
        last.bias.fill_(0.5)
    return _saved(network, folder / f"rrdb-{scale}.safetensors")


def _saved(network: torch.nn.Module, path: Path) -> Path:
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return path


def loaded(path: Path, *, tile: int = 64, overlap: int = 32) -> NetworkUpscaler:
    """The network as the engines load it, on the CPU."""
    settings = UpscalerSettings(upscalers={"it": path}, upscale_tile=tile, upscale_overlap=overlap)
    return weights.load(settings, device="cpu", precision="float32")["it"]


def picture(width: int, height: int, channels: int = 3) -> Pixels:
    """Soft shades with some noise."""
    random = np.random.default_rng(0)
    down, across = np.mgrid[0:height, 0:width] / 16.0
    shades = [np.sin(down + phase) * np.cos(across - phase) for phase in range(channels)]
    noise = random.normal(0.0, 12.0, (height, width, channels))
    values = 127.5 + 90.0 * np.stack(shades, axis=2) + noise
    return Pixels(array=values.clip(0, 255).astype(np.uint8))


def result_of(upscaler: Upscaler, pixels: Pixels, factor: float) -> tuple[list[TileDone], Pixels]:
    """What the generator yields, and what it returns."""
    work = upscaler.upscale(pixels, factor)
    told = []
    while True:
        try:
            told.append(next(work))
        except StopIteration as end:
            made: Pixels = end.value
            return told, made


def apart(one: Pixels, other: Pixels) -> int:
    """The largest difference, in levels of 255."""
    return int(np.abs(one.array.astype(int) - other.array.astype(int)).max())
