"""What an upscale engine says it can do."""

from __future__ import annotations

from collections.abc import Mapping

from atelier_engines.capabilities import (
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Reproducibility,
)

_SIDE = IntegerRange(min=16, max=8192, default=512)
_MAX_PROMPT_LENGTH = 8192


def build_capabilities(
    upscalers: tuple[str, ...], versions: Mapping[str, str], *, on_cpu: bool
) -> Capabilities:
    """The capabilities of an engine with these upscalers; `on_cpu` when all of them work there."""
    return Capabilities(
        description="Enlarges pictures, and makes none of its own",
        image=ImageCapabilities(
            width=_SIDE,
            height=_SIDE,
            max_pixels=_SIDE.max**2,
            features=frozenset({ImageFeature.IMAGE_TO_IMAGE, ImageFeature.UPSCALING}),
            max_prompt_length=_MAX_PROMPT_LENGTH,
            upscalers=upscalers,
            upscale_only=True,
        ),
        reproducibility=Reproducibility.BIT_EXACT if on_cpu else Reproducibility.SAME_ENGINE,
        versions=versions,
    )
