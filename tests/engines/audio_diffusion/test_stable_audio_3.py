"""The stable_audio_3 engine makes exactly what diffusers' pipelines make of the same parts, alone and in company."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderSAME

from atelier_engines.audio_diffusion import samples
from atelier_engines.audio_diffusion.engine import AudioEngine
from atelier_engines.conformance.tasks import random_audio
from atelier_engines.errors import EngineUnavailableError, InvalidTaskError, ModelMissingError
from atelier_engines.stable_audio_3 import create_engine
from atelier_engines.stable_audio_3.config import StableAudio3Config
from atelier_engines.stable_audio_3.same import count_reach
from atelier_engines.task import AudioTask
from tests.engines.audio_clips import clip, task
from tests.engines.audio_diffusion.tiny_stable_audio_3 import MAX_SECONDS, RATE, TinyStableAudio3

TOLERANCE = 1e-5
INITIAL = random_audio(task(), 5, share=0.7)
SHORTEST = random_audio(task(), 6, share=0.4)
COMPANY = (
    task(guidance=1.0),
    task(prompt="a dog barks", seed=2**40 + 3, duration_seconds=1.3, steps=6, guidance=1.0),
    task(guidance=3.0, seed=8, steps=3),
    task(guidance=7.0, negative_prompt="low noise", seed=9),
    task(seed=11, duration_seconds=2.3, steps=2, guidance=1.0),
    task(seed=4, init_audio=INITIAL, strength=1.0, guidance=1.0),
    task(seed=5, init_audio=INITIAL, continuation=True, duration_seconds=0.8, guidance=1.0),
    task(seed=6, init_audio=SHORTEST, continuation=True, guidance=1.0),
)


@pytest.fixture(scope="module")
def alone(stable_audio_3: TinyStableAudio3) -> Iterator[AudioEngine]:
    """Started, as it comes: one clip in each run."""
    yield from started(stable_audio_3)


@pytest.fixture(scope="module")
def sharing(stable_audio_3: TinyStableAudio3) -> Iterator[AudioEngine]:
    """Started, with up to six rows in each run."""
    yield from started(stable_audio_3, max_batch=6)


def started(model: TinyStableAudio3, **settings: object) -> Iterator[AudioEngine]:
    """An engine between its start and its stop."""
    made = create_engine(model.config(**settings))
    assert isinstance(made, AudioEngine)
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@pytest.mark.parametrize("wanted", COMPANY, ids=range(len(COMPANY)))
async def test_a_clip_is_what_the_pipeline_makes(
    alone: AudioEngine, stable_audio_3: TinyStableAudio3, wanted: AudioTask
) -> None:
    """From text, from audio as of its highest noise, and after audio as its pipeline for inpainting."""
    made, expected = await clip(alone, wanted), stable_audio_3.compose(wanted)
    assert made.shape == expected.shape
    assert made.any()
    assert np.abs(made - expected).max() <= TOLERANCE


async def test_a_clip_is_the_same_in_mixed_company(
    sharing: AudioEngine, stable_audio_3: TinyStableAudio3
) -> None:
    """With others of other texts, lengths, steps and guidances, all at once; equal ones share runs."""
    company = (*COMPANY, *(replace(wanted, seed=wanted.seed + 1) for wanted in COMPANY))
    made = await asyncio.gather(*(clip(sharing, wanted) for wanted in company))
    for wanted, found in zip(company, made, strict=True):
        assert np.abs(found - stable_audio_3.compose(wanted)).max() <= TOLERANCE


@pytest.mark.parametrize("seconds", [0.1, 0.5, 2.3, MAX_SECONDS])
async def test_every_length_is_exact(alone: AudioEngine, seconds: float) -> None:
    """Diffusers' pipeline makes 2.3 s one frame too short."""
    made = await clip(alone, task(duration_seconds=seconds, steps=2))
    assert len(made) == round(seconds * RATE)
    assert made[-1].any()


async def test_the_limits_are_those_of_the_model(alone: AudioEngine) -> None:
    """The distilled model takes 8 steps, without guidance."""
    audio = alone.capabilities.audio
    assert audio is not None
    assert audio.steps is not None
    assert audio.guidance is not None
    assert audio.duration_seconds.max == audio.audible_seconds == MAX_SECONDS
    assert (audio.steps.default, audio.guidance.default) == (8, 1.0)
    assert "Gemma" in audio.models[0].license


@pytest.mark.parametrize(
    ("strides", "depths", "window"), [((8,), (2,), 1), ((4, 2), (1, 2), 1), ((4,), (2,), 2)]
)
@torch.no_grad()
def test_pieces_of_the_autoencoder_are_what_the_whole_would_be(
    strides: tuple[int, ...], depths: tuple[int, ...], window: int
) -> None:
    """At every seam, both ways; diffusers' attention over the whole would take the square of its length in memory."""
    torch.manual_seed(2)
    module = AutoencoderSAME(
        patch_size=4,
        encoder_channels=16,
        encoder_c_mults=[1] * len(strides),
        encoder_strides=list(strides),
        encoder_transformer_depths=list(depths),
        latent_dim=4,
        dim_heads=8,
        sliding_window=window,
    ).eval()
    hop, reach = module.downsampling_ratio, count_reach(strides, depths, window)
    latents = torch.randn(1, 4, 300)
    whole = module.decode(latents).sample
    wave = torch.randn(1, 2, 300 * hop)
    encoded = module.encode(wave).latents
    for chunk in samples.plan_chunks(300, 300, reach):
        kept = slice(chunk.keep_start, chunk.keep_stop)
        first, length = chunk.keep_start - chunk.start, chunk.keep_stop - chunk.keep_start
        part = module.decode(latents[..., chunk.start : chunk.stop]).sample
        part = part[..., first * hop : (first + length) * hop]
        expected = whole[..., kept.start * hop : kept.stop * hop]
        assert (part - expected).abs().max() <= TOLERANCE * whole.abs().max()
        again = module.encode(wave[..., chunk.start * hop : chunk.stop * hop]).latents
        again = again[..., first : first + length]
        assert (again - encoded[..., kept]).abs().max() <= TOLERANCE * encoded.abs().max()


async def test_a_long_text_is_refused(alone: AudioEngine) -> None:
    """It is not cut off."""
    with pytest.raises(InvalidTaskError, match="17 tokens, and the model reads at most 16"):
        await clip(alone, task(prompt=" ".join(["rain"] * 16)))


async def test_nothing_is_loaded_before_the_licence_is_accepted(
    stable_audio_3: TinyStableAudio3,
) -> None:
    """The error says what to set."""
    with pytest.raises(EngineUnavailableError, match=r"Community License.*accept_license: true"):
        await create_engine(stable_audio_3.config(accept_license=False)).start()


async def test_a_folder_without_weights_or_with_another_scheduler_is_refused(
    stable_audio_3: TinyStableAudio3, tmp_path: Path
) -> None:
    """By name."""
    folder = tmp_path / "model"
    shutil.copytree(stable_audio_3.folder, folder)
    schedule = folder / "scheduler" / "scheduler_config.json"
    schedule.write_text(
        json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0})
    )
    with pytest.raises(ModelMissingError, match=r"shift .*less than or equal to 1"):
        await create_engine(stable_audio_3.config(model=str(folder))).start()
    shutil.copy(stable_audio_3.folder / "scheduler" / schedule.name, schedule)
    shutil.rmtree(folder / "vae")
    with pytest.raises(ModelMissingError, match=r"no \.safetensors weights in .*vae"):
        await create_engine(stable_audio_3.config(model=str(folder))).start()


def test_the_runtime_onnx_is_refused() -> None:
    """With what to change."""
    with pytest.raises(ValueError, match="do not run on onnx: omit runtime"):
        StableAudio3Config(runtime="onnx", device="cpu")
