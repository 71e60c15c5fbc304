"""Of several candidates the one is returned whose CLAP score is the highest, and all scores are told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.signal import resample_poly
from transformers import ClapModel, ClapProcessor

from atelier_engines.audio_diffusion import prompt_match
from atelier_engines.audio_diffusion.engine import AudioEngine
from atelier_engines.capabilities import AudioFeature
from atelier_engines.errors import EngineFailedError, ModelMissingError, UnsupportedError
from atelier_engines.event import Output, Stage, Step
from atelier_engines.media import Samples
from atelier_engines.tangoflux import create_engine, list_weights
from tests.engines.audio_clips import clip, events, task
from tests.engines.audio_diffusion import tiny_clap
from tests.engines.audio_diffusion.tiny_tangoflux import TinyTangoFlux

FIRST, COUNT = 7, 4
WINDOW = 480_000
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLAP model; not to be changed."""
    return tiny_clap.write(tmp_path_factory.mktemp("clap") / "model")


@pytest.fixture(scope="module", params=[1, 6])
def engine(
    request: pytest.FixtureRequest, tangoflux: TinyTangoFlux, clap: Path
) -> Iterator[AudioEngine]:
    """Started, with one clip in each run of the denoiser, then with three."""
    yield from started(tangoflux, clap, max_batch=request.param)


def started(tangoflux: TinyTangoFlux, clap: Path, **settings: object) -> Iterator[AudioEngine]:
    """An engine that scores candidates, between its start and its stop."""
    made = create_engine(tangoflux.config(prompt_match={"model": str(clap)}, **settings))
    assert isinstance(made, AudioEngine)
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@torch.no_grad()
def expected_score(clap: Path, array: NDArray[np.float32], prompt: str) -> float:
    """The cosine similarity, by the processor for as long as it takes all of the clip."""
    processor, model = ClapProcessor.from_pretrained(clap), ClapModel.from_pretrained(clap)
    wave = resample_poly(array.mean(axis=1), 160, 147).astype(np.float32)
    assert len(wave) <= WINDOW
    inputs = processor(text=prompt, audio=wave, sampling_rate=48000, return_tensors="pt")
    made = model(**{name: value for name, value in inputs.items() if name != "token_type_ids"})
    return float(made.audio_embeds[0] @ made.text_embeds[0])


def score(clap: Path, audio: Samples, prompt: str = "rain on a roof") -> float:
    """What the engine's own scorer gives."""
    run = prompt_match.load(str(clap), download=False).score(audio, prompt)
    with torch.inference_mode():
        while True:
            try:
                next(run)
            except StopIteration as end:
                return float(end.value)


def noise(seconds: float) -> Samples:
    """The same noise each time, which gets louder."""
    frames = round(seconds * 48000)
    wave = np.random.default_rng(2).uniform(-1, 1, (frames, 1)) * np.linspace(0, 1, frames)[:, None]
    return Samples(array=wave.astype(np.float32), sample_rate=48000)


async def test_the_candidate_with_the_highest_score_is_returned(
    engine: AudioEngine, tangoflux: TinyTangoFlux, clap: Path
) -> None:
    """Each is what its seed alone makes, and scored as the parts of transformers score it."""
    wanted = {seed: tangoflux.compose(task(seed=seed)) for seed in range(FIRST, FIRST + COUNT)}
    scores = {seed: expected_score(clap, made, task().prompt) for seed, made in wanted.items()}
    best = max(scores, key=scores.__getitem__)
    (output,) = [
        event
        for event in await events(engine, task(seed=FIRST, candidates=COUNT))
        if isinstance(event, Output)
    ]
    assert isinstance(output.media, Samples)
    assert output.seed == best
    assert np.abs(output.media.array - wanted[best]).max() <= TOLERANCE
    told, of_seed = output.notes
    assert (told.field, of_seed.field) == ("candidates", "seed")
    assert told.text.startswith("prompt match: ")
    found = {
        int(seed): float(one) for seed, one in re.findall(r"seed (\d+) (-?\d\.\d+)", told.text)
    }
    assert found == pytest.approx(scores, abs=1e-4)
    assert str(best) in of_seed.text


async def test_progress_counts_the_steps_of_all_candidates(engine: AudioEngine) -> None:
    """Up to their sum, under the stage that they belong to."""
    found = await events(engine, task(steps=3, candidates=COUNT))
    steps = [(event.index, event.total) for event in found if isinstance(event, Step)]
    assert steps == [(index + 1, 3 * COUNT) for index in range(3 * COUNT)]
    stage = ""
    for event in found:
        if isinstance(event, Stage):
            assert event.name != stage
            stage = event.name
        elif isinstance(event, Step):
            assert stage == "denoise"
    assert stage == "score"


@pytest.mark.parametrize("stage", ["denoise", "score"])
async def test_a_closed_task_makes_no_more_candidates(engine: AudioEngine, stage: str) -> None:
    """While they are made and while they are scored; the device is free at once."""
    async with aclosing(engine.run(task(steps=2, candidates=8))) as stream:
        async for event in stream:
            if event == Stage(name=stage):
                break
    assert len(await clip(engine, task())) == 22050


async def test_only_what_is_configured_is_offered(
    engine: AudioEngine, tangoflux: TinyTangoFlux, clap: Path
) -> None:
    """In the capabilities and the list of weights; the error says what to set."""
    assert engine.capabilities.audio is not None
    assert AudioFeature.CANDIDATES in engine.capabilities.audio.features
    assert engine.capabilities.audio.max_candidates == 8
    config = tangoflux.config(prompt_match={"model": str(clap)})
    assert [entry.key for entry in list_weights(config)] == ["model", "prompt_match.model"]
    list_weights(config)[1].find(False).verify()  # noqa: FBT003 (see WeightsEntry)
    plain = create_engine(tangoflux.config())
    assert plain.capabilities.audio is not None
    assert AudioFeature.CANDIDATES not in plain.capabilities.audio.features
    await plain.start()
    with pytest.raises(UnsupportedError, match="set prompt_match"):
        await events(plain, task(candidates=2))
    await plain.stop()


async def test_an_absent_model_fails_the_tasks_that_need_it_and_no_others(
    tangoflux: TinyTangoFlux, clap: Path, tmp_path: Path
) -> None:
    """It is looked for with the first task; once it is there, the next task has it."""
    folder = tmp_path / "later"
    made = create_engine(tangoflux.config(prompt_match={"model": str(folder)}))
    await made.start()
    with pytest.raises(ModelMissingError, match=r"prompt_match\.model"):
        await events(made, task(candidates=2))
    assert len(await clip(made, task())) == 22050
    folder.symlink_to(clap)
    assert len(await clip(made, task(candidates=2))) == 22050
    await made.stop()


def test_a_long_clip_scores_the_same_each_time(clap: Path) -> None:
    """By the mean over windows of ten seconds that cover all of it."""
    audio = noise(23.0)
    first = score(clap, audio)
    assert [score(clap, audio) for _ in range(2)] == [first, first]
    wave = audio.array[:, 0]
    windows = list(prompt_match.split_windows(wave, WINDOW))
    assert [len(one) for one in windows] == [WINDOW] * 3
    assert np.array_equal(windows[0], wave[:WINDOW])
    assert np.array_equal(windows[1], wave[WINDOW : 2 * WINDOW])
    assert np.array_equal(windows[2], wave[-WINDOW:])
    changed = audio.array.copy()
    changed[-1000:] = 0
    assert score(clap, Samples(array=changed, sample_rate=48000)) != first


@pytest.mark.parametrize(("frames", "windows"), [(1, 1), (WINDOW, 1), (WINDOW + 1, 2)])
def test_windows_are_as_few_as_cover_the_clip(frames: int, windows: int) -> None:
    """What fits into one is not cut."""
    found = list(prompt_match.split_windows(np.zeros(frames, np.float32), WINDOW))
    assert [len(one) for one in found] == [min(frames, WINDOW)] * windows


def test_a_prompt_that_is_too_long_is_cut(clap: Path) -> None:
    """To as many tokens as the model reads."""
    kept = "rain on a the roof dog"
    assert score(clap, noise(0.5), f"{kept} wind wind") == score(clap, noise(0.5), kept)


def test_an_incomplete_model_is_refused(tmp_path: Path) -> None:
    """Missing weights would be random numbers."""
    folder = tiny_clap.write(tmp_path / "clap")
    tensors = load_file(folder / "model.safetensors")
    del tensors["text_projection.linear1.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelMissingError, match=r"lacks 1 weights, text_projection.linear1.weight"):
        prompt_match.load(str(folder), download=False)


def test_a_score_that_is_no_number_is_a_failure(clap: Path) -> None:
    """Nothing is the highest of such scores."""
    silent = noise(0.5).array * np.float32("nan")
    with pytest.raises(EngineFailedError, match="NaN"):
        score(clap, Samples(array=silent, sample_rate=48000))
