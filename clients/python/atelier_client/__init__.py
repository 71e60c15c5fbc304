"""Client for Atelier, the inference service for images and audio.

`AsyncClient` and `Client` have the same methods. Public names are imported on first use, so that the
command line starts fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier_client.async_client import AsyncClient
    from atelier_client.client import Client
    from atelier_client.engines import Capabilities, Engine, EnginePause
    from atelier_client.enums import (
        AudioFormat,
        CancelCause,
        CancelOutcome,
        ControlType,
        EngineState,
        FitMode,
        ImageFormat,
        LoraRole,
        Priority,
        ResourceProfile,
        SafetyMode,
        ServingStatus,
        State,
    )
    from atelier_client.errors import AtelierError
    from atelier_client.media import Artifact
    from atelier_client.notebook import show_progress
    from atelier_client.outputs import Audio, Image
    from atelier_client.results import Cancellation, Generation, Health, Plan, Preview, Progress
    from atelier_client.tasks import (
        AudioTask,
        Control,
        Embedding,
        ImageTask,
        Lora,
        Outpaint,
        Upscale,
    )
    from atelier_client.tls import Tls

__all__ = [
    "Artifact",
    "AsyncClient",
    "AtelierError",
    "Audio",
    "AudioFormat",
    "AudioTask",
    "CancelCause",
    "CancelOutcome",
    "Cancellation",
    "Capabilities",
    "Client",
    "Control",
    "ControlType",
    "Embedding",
    "Engine",
    "EnginePause",
    "EngineState",
    "FitMode",
    "Generation",
    "Health",
    "Image",
    "ImageFormat",
    "ImageTask",
    "Lora",
    "LoraRole",
    "Outpaint",
    "Plan",
    "Preview",
    "Priority",
    "Progress",
    "ResourceProfile",
    "SafetyMode",
    "ServingStatus",
    "State",
    "Tls",
    "Upscale",
    "show_progress",
]
_EXPORTS = {
    "async_client": "AsyncClient",
    "client": "Client",
    "engines": "Capabilities Engine EnginePause",
    "enums": (
        "AudioFormat CancelCause CancelOutcome ControlType EngineState FitMode"
        " ImageFormat LoraRole Priority ResourceProfile SafetyMode ServingStatus State"
    ),
    "errors": "AtelierError",
    "media": "Artifact",
    "notebook": "show_progress",
    "outputs": "Audio Image",
    "results": "Cancellation Generation Health Plan Preview Progress",
    "tasks": "AudioTask Control Embedding ImageTask Lora Outpaint Upscale",
    "tls": "Tls",
}
_HOME_OF = {name: home for home, names in _EXPORTS.items() for name in names.split()}


def __getattr__(name: str) -> object:
    """Import a public name from the module that defines it."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(_HOME_OF)
