"""Loads super-resolution models. Reads safetensors only: other formats can run code."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import spandrel
import torch
from safetensors import SafetensorError

from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from atelier_engines.local.errors import first_line
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
"""What spandrel raises for broken files and unknown architectures."""


def load(
    settings: UpscalerSettings, *, device: str, precision: Precision
) -> Mapping[str, NetworkUpscaler]:
    """Load the configured models by name, onto the device.

    Raises:
        ModelMissingError: a file is absent, broken, not safetensors, or not a super-resolution model.
        EngineUnavailableError: the device is absent.
    """
    target = _device(device)
    dtype = _dtype(precision, target)
    return {
        name: NetworkUpscaler(
            network=_network(name, path, target, dtype),
            digest=_digest(path),
            tile=settings.upscale_tile,
            overlap=settings.upscale_overlap,
        )
        for name, path in settings.upscalers.items()
    }


def versions() -> dict[str, str]:
    """The versions of the packages that determine what the models compute."""
    return {"spandrel": spandrel.__version__, "torch": torch.__version__}


def _network(name: str, path: Path, device: torch.device, dtype: torch.dtype) -> Network:
    if path.suffix.lower() != _SUFFIX:
        raise ModelMissingError(
            f"upscaler {name}: {path} is not a {_SUFFIX} file, and other formats can run code when "
            "they are read; convert it"
        )
    if not path.is_file():
        raise ModelMissingError(f"upscaler {name}: there is no file {path}")
    try:
        found = spandrel.ModelLoader().load_from_file(path)
    except _BROKEN as error:
        message = f"upscaler {name}: {path} cannot be used: {first_line(error)}"
        raise ModelMissingError(message) from error
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
            f"upscaler {name}: {path} holds a model for {found.purpose} ({kind}), "
            "not for super-resolution (SR)"
        )
    if (found.input_channels, found.output_channels) != (_CHANNELS, _CHANNELS):
        raise ModelMissingError(f"upscaler {name}: {path} ({kind}) does not support RGB images")
    if found.tiling is spandrel.ModelTiling.INTERNAL:
        raise ModelMissingError(f"upscaler {name}: {path} ({kind}) cannot run tile by tile")


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
