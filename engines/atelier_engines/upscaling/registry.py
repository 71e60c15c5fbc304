"""The upscalers of an engine, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import PIL

from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local.config import Precision
from atelier_engines.task import Upscale
from atelier_engines.upscaling.config import LANCZOS, UpscalerSettings
from atelier_engines.upscaling.lanczos import LanczosUpscaler
from atelier_engines.upscaling.upscaler import Upscaler


@dataclass(frozen=True, slots=True, kw_only=True)
class Upscalers:
    """The loaded upscalers of an engine."""

    by_name: Mapping[str, Upscaler]
    """The default comes first."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """The entries of `Capabilities.versions`: packages, and `upscaler NAME` with the SHA-256 of its weights."""
    on_cpu: bool = True
    """Whether all of them run on the CPU, where equal tasks give equal bytes."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names for `ImageCapabilities.upscalers`."""
        return tuple(self.by_name)

    def get(self, upscale: Upscale) -> Upscaler:
        """The upscaler that the task names, else the default."""
        return self.by_name[upscale.model or self.names[0]]


def names(settings: UpscalerSettings) -> tuple[str, ...]:
    """The names of the configured upscalers, without loading anything."""
    return (*settings.upscalers, LANCZOS)


def load(settings: UpscalerSettings, *, device: str, precision: Precision) -> Upscalers:
    """Load the configured models, with the Lanczos filter after them; blocks, and imports torch if needed.

    `device` is a name that torch knows, or `auto`; see UpscaleConfig for both.

    Raises:
        ModelMissingError: a file is absent, broken, not safetensors, or not a super-resolution model.
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
