"""Audio engines reuse clips with a sentence embedding of their own."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModel, AutoTokenizer

from atelier_engines import stable_audio as open_audio
from atelier_engines import tangoflux as tango
from atelier_engines.audio_diffusion.engine import AudioEngine
from atelier_engines.engine import Engine
from atelier_engines.errors import ModelMissingError
from atelier_engines.event import Output
from atelier_engines.media import Samples
from atelier_engines.reuse import embedder
from atelier_engines.task import AudioTask
from tests.engines.audio_clips import task
from tests.engines.audio_diffusion import tiny_bert, tiny_clap
from tests.engines.audio_diffusion.test_best_of import score
from tests.engines.audio_diffusion.tiny_stable_audio import TinyStableAudio
from tests.engines.audio_diffusion.tiny_tangoflux import TinyTangoFlux


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    return tiny_bert.write(tmp_path_factory.mktemp("bert") / "mean")


async def output(engine: Engine, wanted: AudioTask) -> Output:
    """What the task gets."""
    async with aclosing(engine.run(wanted)) as events:
        last = [event async for event in events][-1]
    assert isinstance(last, Output)
    return last


async def test_an_engine_reuses_clips_by_the_similarity_of_its_embedding(
    tangoflux: TinyTangoFlux, bert: Path
) -> None:
    """Prompts that differ in a number get clips of their own."""
    one, other = "rain on a roof", "the rain on the roof"
    reader = embedder.load(str(bert), download=False)
    first, second = reader.embed(one), reader.embed(other)
    assert first is not None
    assert second is not None
    similarity = float(first @ second)
    reuse = {"bge_model": str(bert), "tau_prompt_sem": 0.5, "target_per_prompt": 1}
    engine = tangoflux_engine(tangoflux, reuse)
    await engine.start()
    made = await output(engine, task(prompt=one, reuse=True, steps=1))
    found = await output(engine, task(prompt=other, reuse=True, steps=1, seed=8))
    own = await output(engine, task(prompt=f"two {one}", reuse=True, steps=1, seed=9))
    await engine.stop()
    assert isinstance(found.media, Samples)
    assert isinstance(made.media, Samples)
    assert np.array_equal(found.media.array, made.media.array)
    assert found.reused is not None
    assert (found.reused.prompt, found.seed) == (one, made.seed)
    assert found.reused.similarity == pytest.approx(similarity, abs=1e-6)
    assert 0.5 < similarity < 1
    assert own.reused is None


async def test_clips_that_are_kept_are_scored_where_the_best_are_kept(
    tangoflux: TinyTangoFlux, tmp_path: Path
) -> None:
    """By the model of candidates, and no others; without one the configuration is refused."""
    clap = tiny_clap.write(tmp_path / "clap")
    reuse = {"use_bge": False, "cap_strategy": "quality"}
    engine = tango.create_engine(tangoflux.config(reuse=reuse, prompt_match={"model": str(clap)}))
    await engine.start()
    made = await output(engine, task(reuse=True))
    other = await output(engine, task())
    await engine.stop()
    assert isinstance(made.media, Samples)
    assert made.score == pytest.approx(score(clap, made.media), abs=1e-5)
    assert other.score is None
    with pytest.raises(ValidationError, match="quality needs prompt_match"):
        tangoflux.config(reuse=reuse)


def tangoflux_engine(model: TinyTangoFlux, reuse: dict[str, object]) -> Engine:
    """Not started."""
    return tango.create_engine(model.config(reuse=reuse))


def test_without_the_setting_there_is_nothing_around_the_engine(
    tangoflux: TinyTangoFlux, stable_audio: TinyStableAudio
) -> None:
    """It costs nothing."""
    assert isinstance(create(tangoflux), AudioEngine)
    assert isinstance(create(stable_audio), AudioEngine)


def create(model: TinyTangoFlux | TinyStableAudio) -> Engine:
    """Not started."""
    if isinstance(model, TinyTangoFlux):
        return tango.create_engine(model.config())
    return open_audio.create_engine(model.config())


async def test_a_missing_embedding_keeps_the_engine_from_starting(
    tangoflux: TinyTangoFlux, tmp_path: Path
) -> None:
    """Nothing stays loaded."""
    engine = tangoflux_engine(tangoflux, {"bge_model": str(tmp_path / "none")})
    with pytest.raises(ModelMissingError, match="none"):
        await engine.start()
    without = tangoflux_engine(tangoflux, {"bge_model": str(tmp_path / "none"), "use_bge": False})
    await without.start()
    await without.stop()


def test_the_embedding_is_among_the_weights(tangoflux: TinyTangoFlux, bert: Path) -> None:
    """`atelier models` downloads and verifies it."""
    config = tangoflux.config(reuse={"bge_model": str(bert)})
    entry = tango.list_weights(config)[-1]
    assert (entry.key, entry.source) == ("reuse.bge_model", str(bert))
    found = entry.find(False)  # noqa: FBT003 (see WeightsEntry)
    assert found.files == (bert / "model.safetensors",)
    found.verify()
    assert len(found.digest()) == 64
    assert len(tango.list_weights(tangoflux.config(reuse={"use_bge": False}))) == 1


def test_the_embedding_is_looked_up_in_the_directory_of_models(
    tangoflux: TinyTangoFlux, bert: Path
) -> None:
    """As every other model; what is not there is a hub id."""
    for name, found in ((bert.name, str(bert)), ("owner/other", "owner/other")):
        config = tangoflux.config(models_dir=str(bert.parent), reuse={"bge_model": name})
        assert config.reuse is not None
        assert config.reuse.bge_model == found


@pytest.mark.parametrize("mean", [True, False])
def test_a_text_is_the_mean_of_its_tokens_or_the_first(tmp_path: Path, *, mean: bool) -> None:
    """As the model's own file says: MiniLM the one, BGE the other."""
    way = "pooling_mode_mean_tokens" if mean else "pooling_mode_cls_token"
    folder = tiny_bert.write(tmp_path / "bert", pooling=way)
    batch = AutoTokenizer.from_pretrained(folder)("rain on a roof", return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder)(**batch).last_hidden_state[0]
    expected = states.mean(dim=0) if mean else states[0]
    found = embedder.load(str(folder), download=False).embed("rain on a roof")
    assert found is not None
    assert np.allclose(found, (expected / expected.norm()).numpy(), atol=1e-6)


def test_a_text_that_the_model_cannot_read_whole_has_no_vector(bert: Path) -> None:
    """It is not cut off."""
    reader = embedder.load(str(bert), download=False)
    assert reader.embed("rain " * (tiny_bert.MAX_TOKENS - 2)) is not None
    assert reader.embed("rain " * (tiny_bert.MAX_TOKENS - 1)) is None


def test_a_model_that_pools_otherwise_is_refused(tmp_path: Path) -> None:
    """Its vectors would mean nothing here."""
    folder = tiny_bert.write(tmp_path / "bert", pooling="pooling_mode_lasttoken")
    with pytest.raises(ModelMissingError, match="lasttoken"):
        embedder.load(str(folder), download=False)
