"""Loads the models that look at photos, as transformers defines them."""

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
"""What such a model is made of, on the hub."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionModel:
    """A model that looks at photos."""

    model: Any
    """A module of transformers, on `device`."""
    processor: Any
    """Makes its inputs of photos, and something useful of its outputs."""
    device: torch.device
    """Where it computes, in float32."""


def load(kind: type[Any], folder: Path, device: torch.device) -> VisionModel:
    """The model in a directory.

    Args:
        kind: the class of transformers that loads it.
        folder: its directory.
        device: where it is to compute.

    Raises:
        ModelMissingError: it is absent, broken, incomplete, or of another kind.
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
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)  # type: ignore[no-untyped-call]
    except Exception as error:  # files of strangers fail in many ways
        raise ModelMissingError(
            f"the preprocessor {folder} cannot be loaded: {first_line(error)}"
        ) from error
    lost = sorted(map(str, report["missing_keys"]))
    if lost:
        raise ModelMissingError(
            f"the preprocessor {folder} is incomplete or of another kind: {len(lost)} tensors are "
            f"missing, {lost[0]} first"
        )
    model = model.to(device).eval().requires_grad_(requires_grad=False)
    return VisionModel(model=model, processor=processor, device=device)
