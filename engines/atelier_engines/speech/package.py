"""What the package of the voice says of itself, without being imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from atelier_engines.errors import EngineUnavailableError, ModelMissingError
from atelier_engines.local.weights.digests import digest_file

_MODULES = ("hibari", "onnxruntime")
_PACKAGES = ("hibari-tts", "numpy", "onnxruntime")
_WEIGHTS = Path("assets", "hibari.onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class VoicePackage:
    """The voice that is installed."""

    digest: str
    """SHA-256 over its weights."""
    versions: Mapping[str, str]
    """Versions of the packages that affect the result."""


def find_package() -> VoicePackage:
    """The installed voice; reads its weights, 8 MB.

    Raises:
        EngineUnavailableError: it is not installed.
        ModelMissingError: it has no weights.
    """
    specs = [find_spec(module) for module in _MODULES]
    if None in specs or specs[0] is None or specs[0].origin is None:
        raise EngineUnavailableError(
            "a package is missing: hibari-tts or onnxruntime; install atelier-engines[speech]"
        )
    weights = Path(specs[0].origin).parent / _WEIGHTS
    try:
        digest = digest_file(weights)
    except OSError as error:
        raise ModelMissingError(f"the voice has no weights: {error}") from error
    return VoicePackage(digest=digest, versions={name: version(name) for name in _PACKAGES})
