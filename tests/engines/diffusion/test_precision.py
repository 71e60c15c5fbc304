"""What the autoencoder computes in, where the rest of the model computes in float16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from tests.engines.diffusion import tiny_sd
from tests.engines.diffusion.calls import generate_images, image_task


async def autoencoder_computes_in(**config: object) -> torch.dtype:
    """Of a started engine whose denoiser computes in float16, and which paints."""
    engine = DiffusionEngine(
        DiffusionConfig.model_validate({"device": "cpu", "precision": "float16", **config})
    )
    await engine.start()
    assert engine.inspect().family.runtime.dtype == torch.float16
    assert await generate_images(engine, image_task(steps=1))
    (vae,) = (part for part in engine.inspect().components.status() if part.name == "vae")
    await engine.stop()
    return vae.key.dtype


async def test_that_of_sdxl_computes_in_float32_where_its_makers_say_that_it_overflows(
    model: Path,
) -> None:
    """Unless the configuration knows better."""
    assert await autoencoder_computes_in(model=str(model)) == torch.float32
    found = await autoencoder_computes_in(model=str(model), vae_precision="bfloat16")
    assert found == torch.bfloat16


@pytest.mark.parametrize("kind", ["sd15", "sd21"])
async def test_older_ones_do_not_overflow_whatever_their_configuration_says_by_default(
    tmp_path: Path, kind: tiny_sd.Kind
) -> None:
    """Diffusers writes `force_upcast` into all of them, and heeds it for SDXL alone."""
    folder = tiny_sd.write(tmp_path, kind)
    assert '"force_upcast": true' in (folder / "vae" / "config.json").read_text("utf-8")
    assert await autoencoder_computes_in(model=str(folder)) == torch.float16
