"""Client for Atelier, the inference service for images and audio.

`AsyncClient` and `Client` have the same methods. Public names are imported on first use, so that the
command line starts fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier_client.async_client import AsyncClient as AsyncClient
    from atelier_client.client import Client as Client
    from atelier_client.engines import Capabilities as Capabilities
    from atelier_client.engines import Engine as Engine
    from atelier_client.enums import AudioFormat as AudioFormat
    from atelier_client.enums import CancelCause as CancelCause
    from atelier_client.enums import CancelOutcome as CancelOutcome
    from atelier_client.enums import ControlType as ControlType
    from atelier_client.enums import EngineState as EngineState
    from atelier_client.enums import ImageFormat as ImageFormat
    from atelier_client.enums import LoraRole as LoraRole
    from atelier_client.enums import ResourceProfile as ResourceProfile
    from atelier_client.enums import SafetyMode as SafetyMode
    from atelier_client.enums import ServingStatus as ServingStatus
    from atelier_client.enums import State as State
    from atelier_client.errors import AtelierError as AtelierError
    from atelier_client.media import Artifact as Artifact
    from atelier_client.results import Audio as Audio
    from atelier_client.results import Cancellation as Cancellation
    from atelier_client.results import Generation as Generation
    from atelier_client.results import Health as Health
    from atelier_client.results import Image as Image
    from atelier_client.results import Plan as Plan
    from atelier_client.results import Progress as Progress
    from atelier_client.tasks import AudioTask as AudioTask
    from atelier_client.tasks import Control as Control
    from atelier_client.tasks import ImageTask as ImageTask
    from atelier_client.tasks import Lora as Lora
    from atelier_client.tasks import Upscale as Upscale

_EXPORTS = {
    "async_client": "AsyncClient",
    "client": "Client",
    "engines": "Capabilities Engine",
    "enums": (
        "AudioFormat CancelCause CancelOutcome ControlType EngineState ImageFormat LoraRole ResourceProfile SafetyMode"
        " ServingStatus State"
    ),
    "errors": "AtelierError",
    "media": "Artifact",
    "results": "Audio Cancellation Generation Health Image Plan Progress",
    "tasks": "AudioTask Control ImageTask Lora Upscale",
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
