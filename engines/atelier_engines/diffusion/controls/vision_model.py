"""Loads the vision models of preprocessors with transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoImageProcessor

from atelier_engines.errors import ModelMissingError
from atelier_engines.local.errors import first_line
from atelier_engines.local.load_lock import LOAD_LOCK

FILES = ("*.json", "*.safetensors")
"""The files of such a model on the hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionModel:
    """A vision model with its image processor."""

    model: Any
    """The transformers module, on `device`."""
    processor: Any
    """Preprocesses photos, and postprocesses the outputs of the model."""
    device: torch.device
    """Where it runs, in float32."""


def load(kind: type[Any], folder: Path, device: torch.device) -> VisionModel:
    """Load the model in a directory.

    Args:
        kind: the class of transformers that loads it.
        folder: its directory.
        device: where it runs.

    Raises:
        ModelMissingError: it is absent, broken, incomplete, or another kind of model.
    """
    try:
        with LOAD_LOCK:
            model, report = kind.from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)  # type: ignore[no-untyped-call]  # transformers'
    except Exception as error:  # third-party files fail in many ways
        raise ModelMissingError(
            f"the preprocessor {folder} cannot be loaded: {first_line(error)}"
        ) from error
    lost = sorted(map(str, report["missing_keys"]))
    if lost:
        raise ModelMissingError(
            f"the preprocessor {folder} is incomplete or another kind of model: {len(lost)} tensors are "
            f"missing, {lost[0]} first"
        )
    model = model.to(device).eval().requires_grad_(requires_grad=False)
    return VisionModel(model=model, processor=processor, device=device)
