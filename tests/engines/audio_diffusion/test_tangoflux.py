"""The tangoflux engine makes exactly what a composition of the same parts makes, alone and in company."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
import torch

from atelier_engines.audio_diffusion.engine import AudioEngine
from atelier_engines.audio_diffusion.oobleck import TorchNetwork
from atelier_engines.errors import (
    EngineUnavailableError,
    InvalidTaskError,
    ModelMissingError,
)
from atelier_engines.event import Stage, Step
from atelier_engines.tangoflux import create_engine, list_weights
from atelier_engines.tangoflux.model import TangoFluxModel
from atelier_engines.task import AudioTask
from tests.engines.audio_clips import clip, events, task
from tests.engines.audio_diffusion.tiny_tangoflux import HOP, LATENTS, TinyTangoFlux

TOLERANCE = 1e-5

COMPANY = (
    task(),
    task(prompt="a dog barks far away", seed=2**40 + 3, duration_seconds=1.3, steps=6),
    task(guidance=1.0, seed=8, steps=3),
    task(guidance=0.0, negative_prompt="wind", seed=9),
    task(negative_prompt="low noise", seed=10),
    task(seed=11, duration_seconds=2.0, steps=1),
    task(seed=12, guidance=9.0, duration_seconds=0.1),
)


@pytest.fixture(scope="module")
def alone(tangoflux: TinyTangoFlux) -> Iterator[AudioEngine]:
    """Started, as it comes: one clip in each run."""
    yield from started(tangoflux)


@pytest.fixture(scope="module")
def sharing(tangoflux: TinyTangoFlux) -> Iterator[AudioEngine]:
    """Started, with up to six rows in each run."""
    yield from started(tangoflux, max_batch=6)


def started(tangoflux: TinyTangoFlux, **settings: object) -> Iterator[AudioEngine]:
    """An engine between its start and its stop."""
    made = create_engine(tangoflux.config(**settings))
    assert isinstance(made, AudioEngine)
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@pytest.mark.parametrize("wanted", COMPANY, ids=range(len(COMPANY)))
async def test_a_clip_is_what_the_parts_make(
    alone: AudioEngine, tangoflux: TinyTangoFlux, wanted: AudioTask
) -> None:
    """Trimmed decoding, scheduler, guidance and noise, against the whole composition."""
    made, expected = await clip(alone, wanted), tangoflux.compose(wanted)
    assert made.shape == expected.shape
    assert np.abs(made - expected).max() <= TOLERANCE


@pytest.fixture(params=["alone", "sharing"])
def either(request: pytest.FixtureRequest, alone: AudioEngine, sharing: AudioEngine) -> AudioEngine:
    """One after the other."""
    return alone if request.param == "alone" else sharing


async def test_a_clip_is_the_same_in_mixed_company(
    either: AudioEngine, tangoflux: TinyTangoFlux
) -> None:
    """With others of other texts, lengths, steps and guidances, all at once."""
    made = await asyncio.gather(*(clip(either, wanted) for wanted in COMPANY))
    for wanted, found in zip(COMPANY, made, strict=True):
        assert np.abs(found - tangoflux.compose(wanted)).max() <= TOLERANCE


async def test_clips_of_equal_shapes_share_runs(sharing: AudioEngine) -> None:
    """As many as the limit of rows allows: three with guidance."""
    rows: list[int] = []

    def record(
        module: torch.nn.Module, arguments: object, keywords: dict[str, torch.Tensor]
    ) -> None:
        del module, arguments
        rows.append(len(keywords["hidden_states"]))

    model = sharing.inspect().model
    assert isinstance(model, TangoFluxModel)
    assert isinstance(model.denoiser, TorchNetwork)
    hook = model.denoiser.module.register_forward_pre_hook(record, with_kwargs=True)
    await asyncio.gather(*(clip(sharing, task(seed=seed)) for seed in range(3)))
    hook.remove()
    assert max(rows) == 6


async def test_a_clip_longer_than_the_latents_ends_in_silence(alone: AudioEngine) -> None:
    """The published model holds 29.954 of its 30 seconds, this one 1.997 of 2."""
    made = await clip(alone, task(duration_seconds=2.0))
    assert len(made) == 88200
    assert made[: LATENTS * HOP].any()
    assert not made[LATENTS * HOP :].any()
    assert alone.capabilities.audio is not None
    assert alone.capabilities.audio.audible_seconds == LATENTS * HOP / 44100


async def test_a_negative_prompt_changes_the_clip_and_only_with_guidance(
    alone: AudioEngine,
) -> None:
    """Without guidance there is no row for it."""
    for guidance, changes in ((4.5, True), (1.0, False)):
        plain = await clip(alone, task(guidance=guidance))
        other = await clip(alone, task(guidance=guidance, negative_prompt="wind"))
        assert (plain != other).any() == changes


async def test_every_step_is_told_and_a_closed_task_makes_no_more(alone: AudioEngine) -> None:
    """Stages in their order, steps to their total; the device is free at once."""
    found = await events(alone, task(steps=5))
    assert [event.name for event in found if isinstance(event, Stage)] == [
        "encode_text",
        "denoise",
        "decode",
    ]
    steps = [(event.index, event.total) for event in found if isinstance(event, Step)]
    assert steps == [(index, 5) for index in range(1, 6)]
    async with aclosing(alone.run(task(steps=500))) as stream:
        async for event in stream:
            if isinstance(event, Step):
                break
    assert len(await clip(alone, task())) == 22050


async def test_a_text_that_the_model_cannot_read_whole_is_refused(alone: AudioEngine) -> None:
    """By the name of its field; nothing is cut off."""
    long = " ".join(["rain"] * 16)
    for field in ("prompt", "negative_prompt"):
        with pytest.raises(
            InvalidTaskError, match="17 tokens, and the model reads at most 16"
        ) as caught:
            await clip(alone, task(**{field: long}))
        assert caught.value.field == field


async def test_nothing_is_loaded_before_the_licence_is_accepted(tangoflux: TinyTangoFlux) -> None:
    """The capabilities say what it asks before, and the error says what to set."""
    made = create_engine(tangoflux.config(accept_license=False))
    assert made.capabilities.audio is not None
    assert "non-commercial" in made.capabilities.audio.models[0].license
    assert "non-commercial" in made.capabilities.description
    with pytest.raises(EngineUnavailableError, match=r"non-commercial.*accept_license: true"):
        await made.start()


async def test_what_is_missing_or_broken_is_named(tangoflux: TinyTangoFlux, tmp_path: Path) -> None:
    """Of the files, and of what is in them."""
    for name, broken, message in (
        ("vae.safetensors", None, "there is no file .*vae.safetensors"),
        ("tangoflux.safetensors", b"x" * 100, "is not a safetensors file"),
        ("config.json", b'{"num_layers": 2}', "incomplete: .* are missing"),
        ("config.json", b'{"num_layers": "two"}', "config.json is not usable: num_layers"),
        ("config.json", b'{"attention_head_dim": 64}', "attention_head_dim .* 128"),
    ):
        folder = tmp_path / f"{name}-{len(message)}"
        shutil.copytree(tangoflux.folder, folder)
        (folder / name).unlink()
        if broken is not None:
            (folder / name).write_bytes(broken)
        with pytest.raises(ModelMissingError, match=message):
            await create_engine(tangoflux.config(model=str(folder))).start()


async def test_weights_with_another_digest_are_refused(tangoflux: TinyTangoFlux) -> None:
    """And the right one is what the listing shows."""
    (entry,) = list_weights(tangoflux.config())
    found = entry.find(False)  # noqa: FBT003 (see WeightsEntry)
    made = create_engine(tangoflux.config(digest=found.digest()))
    await made.start()
    assert made.capabilities.audio is not None
    assert made.capabilities.audio.models[0].digest == found.digest()
    await made.stop()
    with pytest.raises(ModelMissingError, match="and not the configured 0000"):
        await create_engine(tangoflux.config(digest="0" * 64)).start()
