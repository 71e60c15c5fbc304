"""Loads super-resolution models. Reads safetensors only: other formats can run code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import spandrel
import torch
from safetensors import SafetensorError

from atelier_engines.errors import ModelMissingError
from atelier_engines.local import devices
from atelier_engines.local.config import Precision
from atelier_engines.local.errors import first_line
from atelier_engines.local.weights.digests import digest_file
from atelier_engines.local.weights.sources import SAFETENSORS_SUFFIX
from atelier_engines.upscaling.config import UpscalerSettings
from atelier_engines.upscaling.network import Network, NetworkUpscaler

_CHANNELS = 3
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

_WRAPPERS = ("params_ema", "params-ema", "params", "model_state_dict", "state_dict", "model", "net")
"""What stands before the names of tensors, those that are used first.

Source: BasicSR 1.4.2, models/base_model.py (`param_key`); spandrel 0.4.2, __helpers/canonicalize.py, which
knows the same words in pickles.
"""


def load(
    settings: UpscalerSettings, *, device: str, precision: Precision
) -> Mapping[str, NetworkUpscaler]:
    """Load the configured models by name, onto the device.

    Raises:
        ModelMissingError: a file is absent, broken, not safetensors, or not a super-resolution model.
        EngineUnavailableError: the device is absent.
    """
    target = devices.resolve_device(device)
    dtype = devices.resolve_dtype(precision, target)
    return {
        name: NetworkUpscaler(
            network=_network(name, path, target, dtype),
            digest=digest_file(path),
            tile=settings.upscale_tile,
            overlap=settings.upscale_overlap,
        )
        for name, path in settings.upscalers.items()
    }


def versions() -> dict[str, str]:
    """The versions of the packages that determine what the models compute."""
    return {"spandrel": spandrel.__version__, "torch": torch.__version__}


def _network(name: str, path: Path, device: torch.device, dtype: torch.dtype) -> Network:
    if path.suffix.lower() != SAFETENSORS_SUFFIX:
        raise ModelMissingError(
            f"upscaler {name}: {path} is not a {SAFETENSORS_SUFFIX} file, and other formats can run code when "
            "they are read; convert it"
        )
    if not path.is_file():
        raise ModelMissingError(f"upscaler {name}: there is no file {path}")
    try:
        found = _recognise(path)
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


def _recognise(path: Path) -> spandrel.ModelDescriptor:
    """The model in a file, as it is or under a name that training programs put before its tensors.

    A prefix is removed only where the whole file is no model, since `model.` begins the names of ESRGAN's
    first architecture.
    """
    loader = spandrel.ModelLoader()
    tensors = loader.load_state_dict_from_file(path)
    try:
        return loader.load_from_state_dict(tensors)
    except spandrel.UnsupportedModelError:
        for wrapper in _WRAPPERS:
            start = f"{wrapper}."
            inner = {
                name.removeprefix(start): tensor
                for name, tensor in tensors.items()
                if name.startswith(start)
            }
            if inner:
                return loader.load_from_state_dict(inner)
        raise


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
