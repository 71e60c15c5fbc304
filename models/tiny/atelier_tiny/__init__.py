"""The weights of ``atelier-tiny`` as folders: nothing is imported but their paths."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

_HERE: Final = Path(__file__).parent


def _folders(parent: Path) -> Mapping[str, Path]:
    return MappingProxyType({found.name: found for found in sorted(parent.glob("[a-z]*"))})


WEIGHTS: Final[Path] = _HERE / "weights"
"""Folder in diffusers' layout (``model_index.json``, ``unet``, ...) with ``atelier.json``."""

CONTROLNETS: Final[Mapping[str, Path]] = _folders(_HERE / "controlnets")
"""What a control picture shows ("canny") to a folder for ``ControlNetModel.from_pretrained``."""

LORAS: Final[Mapping[str, Path]] = _folders(_HERE / "loras")
"""Name ("sketch") to a folder for ``load_lora_weights``."""

GRAPHS: Final[Mapping[str, Path]] = MappingProxyType(
    {found.stem: found for found in sorted((_HERE / "graphs").glob("*.onnx"))}
)
"""Names to the graphs of the networks in ONNX's format, without weights: they save the minutes that an export takes."""

__all__ = ["CONTROLNETS", "GRAPHS", "LORAS", "WEIGHTS"]
