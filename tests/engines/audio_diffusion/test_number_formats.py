"""Half precision is close to full precision, and what overflows in it stays in full precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atelier_engines.audio_diffusion.engine import AudioEngine, choose_rows
from atelier_engines.audio_diffusion.module_loading import choose_dtype
from atelier_engines.audio_diffusion.oobleck import TorchNetwork
from atelier_engines.tangoflux import create_engine
from atelier_engines.tangoflux.model import TangoFluxModel
from tests.engines.audio_clips import clip, task
from tests.engines.audio_diffusion.tiny_tangoflux import TinyTangoFlux


@pytest.mark.parametrize(
    ("precision", "text", "tolerance"),
    [("bfloat16", torch.bfloat16, 0.2), ("float16", torch.float32, 0.02)],
)
async def test_half_precision_is_close_to_full(
    tangoflux: TinyTangoFlux, precision: str, text: torch.dtype, tolerance: float
) -> None:
    """The autoencoder stays in float32, and so does a T5 beside float16."""
    made = create_engine(tangoflux.config(precision=precision))
    assert isinstance(made, AudioEngine)
    await made.start()
    status = {one.name: one.key.dtype for one in made.inspect().model.components.status()}
    assert status["vae"] == status["conditioner"] == torch.float32
    assert status["text_encoder"] == text
    assert status["transformer"] == getattr(torch, precision)
    model = made.inspect().model
    assert isinstance(model, TangoFluxModel)
    assert isinstance(model.denoiser, TorchNetwork)
    assert model.denoiser.module.dtype == getattr(torch, precision)
    wanted = task(guidance=1.0)
    found, expected = await clip(made, wanted), tangoflux.compose(wanted)
    await made.stop()
    assert 0 < np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def test_what_is_not_configured_fits_the_device(tangoflux: TinyTangoFlux) -> None:
    """bfloat16 and shared runs on CUDA, float32 and one clip at a time on a CPU."""
    config = tangoflux.config()
    assert choose_dtype(config, torch.device("cuda")) == torch.bfloat16
    assert choose_dtype(config, torch.device("cpu")) == torch.float32
    assert (
        choose_dtype(tangoflux.config(precision="float16"), torch.device("cuda")) == torch.float16
    )
    assert (choose_rows(None, "cpu"), choose_rows(None, "cuda"), choose_rows(3, "cpu")) == (
        1,
        16,
        3,
    )
