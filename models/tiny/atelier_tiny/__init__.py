"""The weights of ``atelier-tiny`` as a folder: nothing is imported but its path."""

from pathlib import Path
from typing import Final

WEIGHTS: Final[Path] = Path(__file__).parent / "weights"
"""Folder in diffusers' layout (``model_index.json``, ``unet``, ...) with ``atelier.json``."""

__all__ = ["WEIGHTS"]
