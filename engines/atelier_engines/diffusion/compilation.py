"""Compiles a model's blocks at the start of an engine, for the shapes that are configured."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import fields

import torch

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.families.family import Family, is_guided
from atelier_engines.diffusion.model_info import ModelInfo
from atelier_engines.diffusion.runtimes.base import Conditioning
from atelier_engines.diffusion.runtimes.compiled_blocks import CompiledBlocks, find_shape
from atelier_engines.errors import EngineUnavailableError

_log = logging.getLogger(__name__)

_MASK_CHANNELS = 5
"""Channels that inpainting models take beside the latents: the mask, and the latents of what is kept."""


def require_compiler() -> None:
    """Return if there is a C++ compiler, which torch.compile needs on every device.

    Raises:
        EngineUnavailableError: there is none.
    """
    from torch._inductor import config  # noqa: PLC0415  (takes seconds; where torch has its settings)

    names = [name for name in config.cpp.cxx if name]
    if not any(map(shutil.which, names)):
        raise EngineUnavailableError(
            f"compile needs a C++ compiler, and there is no {' or '.join(names)}: install one "
            "(apt-get install g++), name another in the variable CXX, or set compile to false"
        )


def create_blocks(config: DiffusionConfig) -> CompiledBlocks:
    """What compiles the blocks of an engine, if its configuration says so.

    Raises:
        EngineUnavailableError: it does, and there is no C++ compiler.
    """
    if config.compile:
        require_compiler()
    return CompiledBlocks()


def compile_shapes(
    family: Family, blocks: CompiledBlocks, config: DiffusionConfig, info: ModelInfo
) -> None:
    """Run denoiser and ControlNets once for each configured shape, so that their blocks are compiled for it.

    Args:
        family: the model.
        blocks: its blocks.
        config: names the shapes.
        info: its default size and guidance, used where the configuration names no shapes.

    Raises:
        Exception: whatever the compiler raises.
    """
    buckets = [(one.width, one.height, one.rows) for one in config.compile_buckets]
    usual = (info.width, info.height, 2 if is_guided(info.guidance) else 1)
    for width, height, rows in buckets or [usual]:
        began = time.monotonic()
        with torch.inference_mode():
            _compile_shape(family, blocks, (width, height), rows)
        _log.info(
            "shape_compiled",
            extra={
                "width": width,
                "height": height,
                "rows": rows,
                "seconds": round(time.monotonic() - began, 1),
            },
        )


def _compile_shape(
    family: Family, blocks: CompiledBlocks, size: tuple[int, int], rows: int
) -> None:
    width, height = size
    runtime = family.runtime
    _, channels, *latent_size = family.latent_shape(width, height)
    channels += _MASK_CHANNELS if family.mask_channels else 0
    latents = torch.zeros(rows, channels, *latent_size, dtype=runtime.dtype, device=runtime.device)
    timesteps = torch.zeros(rows, device=runtime.device)
    conditioning = _repeat(family.condition("", "", guidance=1.0, width=width, height=height), rows)
    maps = torch.zeros(rows, 3, height, width, dtype=runtime.dtype, device=runtime.device)
    with blocks.compiling(find_shape(latents, conditioning.prompt_embeds)):
        for controlnet in runtime.controlnets.values():
            controlnet.compute_residuals(
                latents, timesteps, conditioning, maps=maps, scales=[1.0] * rows
            )
        runtime.denoiser.predict(latents, timesteps, conditioning)


def _repeat(conditioning: Conditioning, rows: int) -> Conditioning:
    return Conditioning(**dict(_repeat_fields(conditioning, rows)))


def _repeat_fields(conditioning: Conditioning, rows: int) -> Iterator[tuple[str, torch.Tensor]]:
    for one in fields(conditioning):
        value = getattr(conditioning, one.name)
        if value is not None:
            yield one.name, torch.cat([value] * rows)
