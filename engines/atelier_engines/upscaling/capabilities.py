"""The capabilities of the `upscale` engine."""

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
    """The capabilities of an engine with these upscalers; `on_cpu` says whether all of them run there."""
    return Capabilities(
        description="Upscales images; generates none",
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
