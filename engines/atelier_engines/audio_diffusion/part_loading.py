"""Loads the components of a model in diffusers' layout."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from atelier_engines.audio_diffusion.model_folder import ModelFolder
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.components import ComponentSpec
from atelier_engines.local.load_lock import LOAD_LOCK
from atelier_engines.local.torch_module import TorchModule
from atelier_engines.local.weights import safetensors_header

ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)
DENOISER = "transformer"
"""The component that runs in every step."""


def read_config(folder: Path, kind: Any) -> dict[str, Any]:  # noqa: ANN401 (diffusers' classes have no types)
    """The configuration of a component, with diffusers' defaults for what its file leaves out."""
    with LOAD_LOCK, torch.device("meta"):
        made = kind.from_config(kind.load_config(folder, local_files_only=True))
    return {name: value for name, value in made.config.items() if not name.startswith("_")}


def specify(
    files: ModelFolder, part: str, kind: type[ModuleT], dtype: torch.dtype, device: torch.device
) -> ComponentSpec[TorchModule[ModuleT]]:
    """A component of that class, in that type on that device."""
    weights = files.list_weights(part)
    return ComponentSpec(
        name=part,
        kind=kind.__name__,
        files=weights,
        size=safetensors_header.estimate_bytes(weights, dtype),
        dtype=dtype,
        load=partial(TorchModule, partial(_read, files.folder / part, kind, dtype, device)),
        runs_every_step=part == DENOISER,
    )


def _read(folder: Path, kind: type[ModuleT], dtype: torch.dtype, device: torch.device) -> ModuleT:
    """A component in diffusers' layout on its device, in evaluation mode and without gradients.

    Raises:
        ModelMissingError: weights are missing in the files; they would be random numbers.
    """
    made: Any = kind  # its classes have no base for mypy that says how they are loaded
    module, report = made.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    missing = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if missing:
        raise ModelMissingError(
            f"the weights in {folder} are incomplete: {len(missing)} are missing or of another shape, "
            f"{missing[0]} first"
        )
    ready: ModuleT = module.to(device).eval().requires_grad_(requires_grad=False)
    return ready
