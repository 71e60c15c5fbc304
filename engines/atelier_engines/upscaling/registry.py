"""All ways of enlarging pictures that an engine has, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import PIL

from atelier_engines.errors import EngineUnavailableError
from atelier_engines.task import Upscale
from atelier_engines.upscaling.config import LANCZOS, Precision, UpscalerSettings
from atelier_engines.upscaling.lanczos import LanczosUpscaler
from atelier_engines.upscaling.upscaler import Upscaler


@dataclass(frozen=True, slots=True, kw_only=True)
class Upscalers:
    """What `load` has loaded."""

    by_name: Mapping[str, Upscaler]
    """The default first."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """For `Capabilities.versions`: packages, and `upscaler NAME` with the SHA-256 of its weights."""
    on_cpu: bool = True
    """Whether all of them compute on the CPU, where equal tasks give equal bytes."""

    @property
    def names(self) -> tuple[str, ...]:
        """For `ImageCapabilities.upscalers`."""
        return tuple(self.by_name)

    def get(self, upscale: Upscale) -> Upscaler:
        """The upscaler that the task names, else the default."""
        return self.by_name[upscale.model or self.names[0]]


def names(settings: UpscalerSettings) -> tuple[str, ...]:
    """What `Upscalers.names` will be, without loading anything."""
    return (*settings.upscalers, LANCZOS)


def load(settings: UpscalerSettings, *, device: str, precision: Precision) -> Upscalers:
    """The configured networks, and Lanczos' filter after them; blocks, and imports torch if need be.

    `device` is a name that torch knows, or `auto`; see UpscaleConfig for both.

    Raises:
        ModelMissingError: a file is absent, broken, no safetensors, or no network that enlarges.
        EngineUnavailableError: the device or a package is absent.
    """
    versions = {"pillow": PIL.__version__}
    if not settings.upscalers:
        return Upscalers(by_name={LANCZOS: LanczosUpscaler()}, versions=versions)
    try:
        from atelier_engines.upscaling import weights  # noqa: PLC0415 (takes seconds)
    except ImportError as error:
        msg = f"a package is missing: {error}; install atelier-engines[local]"
        raise EngineUnavailableError(msg) from error
    networks = weights.load(settings, device=device, precision=precision)
    digests = {f"upscaler {name}": network.digest for name, network in networks.items()}
    return Upscalers(
        by_name={**networks, LANCZOS: LanczosUpscaler()},
        versions={**versions, **weights.versions(), **digests},
        on_cpu=all(network.on_cpu for network in networks.values()),
    )
