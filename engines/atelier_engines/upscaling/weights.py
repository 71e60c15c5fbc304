"""Loads the networks that enlarge pictures. Reads safetensors alone: other formats can run code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import spandrel
import torch
from safetensors import SafetensorError

from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from atelier_engines.upscaling.config import Precision, UpscalerSettings
from atelier_engines.upscaling.network import Network, NetworkUpscaler

_SUFFIX = ".safetensors"
_CHANNELS = 3
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_BROKEN = (
    AssertionError,
    KeyError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    spandrel.UnsupportedModelError,
)
"""What reading a file and guessing its architecture was seen to raise, or may."""


def load(
    settings: UpscalerSettings, *, device: str, precision: Precision
) -> Mapping[str, NetworkUpscaler]:
    """The configured networks by name, on the device and ready to work.

    Raises:
        ModelMissingError: a file is absent, broken, no safetensors, or no network that enlarges.
        EngineUnavailableError: the device is absent.
    """
    place = _device(device)
    dtype = _dtype(precision, place)
    return {
        name: NetworkUpscaler(
            network=_network(name, path, place, dtype),
            digest=_digest(path),
            tile=settings.upscale_tile,
            overlap=settings.upscale_overlap,
        )
        for name, path in settings.upscalers.items()
    }


def versions() -> dict[str, str]:
    """Of the packages that shape what networks make."""
    return {"spandrel": spandrel.__version__, "torch": torch.__version__}


def _network(name: str, path: Path, device: torch.device, dtype: torch.dtype) -> Network:
    if path.suffix.lower() != _SUFFIX:
        raise ModelMissingError(
            f"upscaler {name}: {path} is no {_SUFFIX} file, and other formats can run code when "
            "they are read; convert it"
        )
    if not path.is_file():
        raise ModelMissingError(f"upscaler {name}: there is no file {path}")
    try:
        found = spandrel.ModelLoader().load_from_file(path)
    except _BROKEN as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelMissingError(f"upscaler {name}: {path} cannot be used: {first}") from error
    _require_super_resolution(name, path, found)
    found.eval().model.requires_grad_(requires_grad=False)
    try:
        network: Network = found.to(device, dtype)
    except spandrel.UnsupportedDtypeError:
        network = found.to(device, torch.float32)
    return network


def _require_super_resolution(name: str, path: Path, found: spandrel.ModelDescriptor) -> None:
    kind = found.architecture.name
    if not isinstance(found, spandrel.ImageModelDescriptor) or found.purpose != "SR":
        raise ModelMissingError(
            f"upscaler {name}: {path} holds a network for {found.purpose} ({kind}), "
            "not one that enlarges pictures (SR)"
        )
    if (found.input_channels, found.output_channels) != (_CHANNELS, _CHANNELS):
        raise ModelMissingError(f"upscaler {name}: {path} ({kind}) is not for pictures in colour")
    if found.tiling is spandrel.ModelTiling.INTERNAL:
        raise ModelMissingError(f"upscaler {name}: {path} ({kind}) cannot work tile by tile")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not (
        torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    ):
        raise EngineUnavailableError(f"there is no device {name} here")
    return device


def _dtype(precision: Precision, device: torch.device) -> torch.dtype:
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return _DTYPES[precision]
