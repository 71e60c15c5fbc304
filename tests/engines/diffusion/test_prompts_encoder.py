"""Prompts of any length and weight as embeddings, and how often the text encoders run for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from numpy.typing import NDArray

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.diffusion.config import PromptSyntax
from atelier_engines.diffusion.families.sd import Sd
from atelier_engines.diffusion.families.sdxl import Sdxl
from atelier_engines.diffusion.loras.replacing import LoraTarget
from atelier_engines.diffusion.prompts.encoder import (
    Embedding,
    EmbeddingCache,
    PromptEncoder,
    align,
    zeros_like,
)
from atelier_engines.diffusion.runtimes.base import (
    NO_VECTORS,
    Runtime,
    TextEncoder,
    TextEncoderOutput,
)
from atelier_engines.event import Event, Output
from atelier_engines.local.step_pipeline import run_alone
from atelier_engines.media import Pixels
from tests.engines.diffusion.calls import generate_images, image_task

PIECES = (" ".join(["red"] * 75), "a blue house", "an apple")
"""The first one fills a chunk."""


class Counting:
    """The text encoders of a runtime, and how often they are run."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.encoders = tuple(_Counted(self, encoder) for encoder in runtime.text_encoders)
        self.runs = 0


class _Counted:
    """See TextEncoder."""

    def __init__(self, counting: Counting, encoder: TextEncoder) -> None:
        self._counting = counting
        self._encoder = encoder

    @property
    def lora_target(self) -> LoraTarget | None:
        """See TextEncoder.lora_target."""
        return self._encoder.lora_target

    @property
    def width(self) -> int:
        """See TextEncoder.width."""
        return self._encoder.width

    def encode(
        self,
        token_ids: torch.Tensor,
        *,
        layer: int | None,
        normed: bool = False,
        vectors: Mapping[int, torch.Tensor] = NO_VECTORS,
    ) -> TextEncoderOutput:
        """See TextEncoder.encode."""
        self._counting.runs += 1
        return self._encoder.encode(token_ids, layer=layer, normed=normed, vectors=vectors)


@pytest.fixture
def runtime(engine: DiffusionEngine) -> Counting:
    """The engine's own."""
    return Counting(engine.inspect().family.runtime)


def encoder_of(
    runtime: Counting,
    pipeline: StableDiffusionXLPipeline,
    *,
    prompt_syntax: PromptSyntax = "weighted",
    cache: EmbeddingCache | None = None,
) -> PromptEncoder:
    """An encoder of SDXL, without a cache unless there is one."""
    return PromptEncoder(
        text_encoders=runtime.encoders,
        tokenizers=(pipeline.tokenizer, pipeline.tokenizer_2),
        layer=-2,
        prompt_syntax=prompt_syntax,
        cache=cache or EmbeddingCache(0),
    )


@pytest.fixture
def encoder(runtime: Counting, pipeline: StableDiffusionXLPipeline) -> PromptEncoder:
    """Without a cache."""
    return encoder_of(runtime, pipeline)


def encoded(pipeline: StableDiffusionXLPipeline, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states and pooled embedding by diffusers."""
    hidden, _, pooled, _ = pipeline.encode_prompt(text, do_classifier_free_guidance=False)
    return hidden, pooled


def same(one: Embedding, other: Embedding) -> bool:
    """Whether they are equal to the bit."""
    assert one.pooled is not None
    assert other.pooled is not None
    return torch.equal(one.hidden, other.hidden) and torch.equal(one.pooled, other.pooled)


@pytest.mark.parametrize(
    "text", ["", "a red apple", "(a) [red:1] apple", "naïve 猫 🍎!", PIECES[0]]
)
def test_in_plain_syntax_a_text_is_what_the_pipeline_makes_of_it(
    runtime: Counting, pipeline: StableDiffusionXLPipeline, text: str
) -> None:
    """To the bit."""
    made = encoder_of(runtime, pipeline, prompt_syntax="plain").encode(text)
    hidden, pooled = encoded(pipeline, text)
    assert same(made, Embedding(hidden=hidden, pooled=pooled))


@pytest.mark.parametrize(
    "text", ["a red apple", "a (red:1) apple", "a ([red]) [(apple)]", "a re(d:1.0) apple"]
)
def test_weights_of_one_change_nothing(
    encoder: PromptEncoder, runtime: Counting, pipeline: StableDiffusionXLPipeline, text: str
) -> None:
    """Neither a bit nor the number of runs."""
    made = encoder.encode(text)
    hidden, pooled = encoded(pipeline, "a red apple")
    assert same(made, Embedding(hidden=hidden, pooled=pooled))
    assert runtime.runs == 2


@pytest.mark.parametrize("between", [" ", " BREAK "])
def test_each_chunk_is_encoded_by_itself(
    encoder: PromptEncoder, pipeline: StableDiffusionXLPipeline, between: str
) -> None:
    """One behind the other, and the first is the pooled one."""
    pieces = PIECES if between != " " else PIECES[:2]
    parts = [encoded(pipeline, piece) for piece in pieces]
    made = encoder.encode(between.join(pieces))
    wanted = torch.cat([hidden for hidden, _ in parts], dim=1)
    assert same(made, Embedding(hidden=wanted, pooled=parts[0][1]))


def test_a_weight_moves_a_token_away_from_the_empty_text(
    encoder: PromptEncoder, pipeline: StableDiffusionXLPipeline
) -> None:
    """Its own token only, as far as the weight says; the pooled embedding has no weights."""
    made = encoder.encode("(red:1.5) (blue:0) red")
    hidden, pooled = encoded(pipeline, "red blue red")
    blank, _ = encoded(pipeline, "")
    blue = len(pipeline.tokenizer("blue", add_special_tokens=False).input_ids)
    assert torch.allclose(made.hidden[:, 1], blank[:, 1] + 1.5 * (hidden[:, 1] - blank[:, 1]))
    assert not torch.allclose(made.hidden[:, 1], hidden[:, 1])
    assert torch.equal(made.hidden[:, 2 : 2 + blue], blank[:, 2 : 2 + blue])
    assert torch.equal(made.hidden[:, 2 + blue :], hidden[:, 2 + blue :])
    assert torch.equal(made.hidden[:, 0], hidden[:, 0])
    assert made.pooled is not None
    assert torch.equal(made.pooled, pooled)


def test_weights_count_in_later_chunks_too(
    encoder: PromptEncoder, pipeline: StableDiffusionXLPipeline
) -> None:
    """Each chunk against the empty text."""
    made = encoder.encode("red BREAK (red:2)")
    hidden, _ = encoded(pipeline, "red")
    blank, _ = encoded(pipeline, "")
    assert torch.equal(made.hidden[:, :77], hidden)
    assert torch.allclose(made.hidden[:, 78], 2 * hidden[:, 1] - blank[:, 1])
    assert torch.equal(made.hidden[:, 79:], hidden[:, 2:])


def test_the_shorter_text_is_filled_up_with_empty_ones(encoder: PromptEncoder) -> None:
    """Whichever it is; without a shorter one nothing is encoded."""
    long, short, blank = (encoder.encode(text) for text in ("a BREAK b BREAK c", "a", ""))
    wanted = torch.cat([short.hidden, blank.hidden, blank.hidden], dim=1)
    for filled, other in (
        align(short, long, lambda: blank),
        align(long, short, lambda: blank)[::-1],
    ):
        assert torch.equal(filled.hidden, wanted)
        assert filled.pooled is short.pooled
        assert other is long
    assert align(short, blank, pytest.fail) == (short, blank)


def test_zeros_are_as_long_as_what_they_stand_against(encoder: PromptEncoder) -> None:
    """In both parts."""
    long = encoder.encode("a BREAK b")
    zeros = zeros_like(long)
    assert long.pooled is not None
    assert same(zeros, Embedding(hidden=long.hidden * 0, pooled=long.pooled * 0))


def test_what_was_encoded_is_not_encoded_again(
    runtime: Counting, pipeline: StableDiffusionXLPipeline
) -> None:
    """For the same words and LoRAs; others are other texts."""
    cache = EmbeddingCache(2**20)
    encoder = encoder_of(runtime, pipeline, cache=cache)
    first = encoder.encode("a red apple")
    assert (runtime.runs, cache.hits, cache.misses) == (2, 0, 1)
    assert encoder.encode("a red apple") is first
    assert (runtime.runs, cache.hits, cache.misses) == (2, 1, 1)
    encoder.encode("a red apple", adapters=("style", 0.8))
    assert runtime.runs == 4
    encoder.encode("a red apple ")
    assert runtime.runs == 6


def test_the_empty_text_that_weights_need_is_kept_too(
    runtime: Counting, pipeline: StableDiffusionXLPipeline
) -> None:
    """Two prompts with weights run the text encoders thrice."""
    encoder = encoder_of(runtime, pipeline, cache=EmbeddingCache(2**20))
    encoder.encode("(red)")
    encoder.encode("(blue)")
    assert runtime.runs == 3 * 2


def test_without_a_cache_each_time_is_the_first(runtime: Counting, encoder: PromptEncoder) -> None:
    """0 bytes keep nothing."""
    assert same(encoder.encode("red"), encoder.encode("red"))
    assert runtime.runs == 4


def painted(
    engine: DiffusionEngine, prompts: PromptEncoder, texts: Sequence[str]
) -> NDArray[np.uint8]:
    """The image of a prompt and a negative prompt, by the engine's model."""
    loaded = engine.inspect()
    events: list[Event] = []
    family = replace(loaded.family, prompts=prompts)  # type: ignore[type-var]  # a dataclass
    prompt, negative = texts
    task = image_task(prompt=prompt, negative_prompt=negative)
    run_alone(replace(loaded, family=family), task, events.append)
    (media,) = (event.media for event in events if isinstance(event, Output))
    assert isinstance(media, Pixels)
    return media.array


@pytest.mark.parametrize("texts", [("a (red:1.4) apple", "blue"), ("a BREAK b", "[house]")])
def test_a_hit_gives_the_same_image_and_runs_no_text_encoder(
    engine: DiffusionEngine,
    runtime: Counting,
    pipeline: StableDiffusionXLPipeline,
    texts: tuple[str, str],
) -> None:
    """To the bit."""
    cache = EmbeddingCache(2**20)
    encoder = encoder_of(runtime, pipeline, cache=cache)
    first = painted(engine, encoder, texts)
    runs, hits = runtime.runs, cache.hits
    assert runs
    assert np.array_equal(painted(engine, encoder, texts), first)
    assert runtime.runs == runs
    assert cache.hits > hits
    assert np.array_equal(painted(engine, encoder_of(runtime, pipeline), texts), first)


def test_every_family_tells_the_loras_of_text_encoders_apart(
    engine: DiffusionEngine, runtime: Counting, pipeline: StableDiffusionXLPipeline
) -> None:
    """Both of its texts are others with other LoRAs, the empty ones that fill up too."""
    loaded = engine.inspect()
    cache = EmbeddingCache(2**20)
    prompts = encoder_of(runtime, pipeline, cache=cache)
    architecture = loaded.family.architecture
    for family in (
        Sdxl(runtime=runtime.runtime, prompts=prompts, architecture=architecture),
        Sd(name="sd15", runtime=runtime.runtime, prompts=prompts, architecture=architecture),
    ):
        cache.clear()
        for adapters, runs in (("one", 8), ("one", 0), ("other", 8)):
            before = runtime.runs
            family.condition("a BREAK b", "c", guidance=5, width=64, height=64, adapters=adapters)
            assert runtime.runs - before == runs


async def test_the_engine_keeps_as_many_prompts_as_are_configured(model: Path) -> None:
    """A megabyte holds the few of this test, and 0 bytes hold none."""
    for size, hits in ((2**20, 2), (0, 0)):
        config = DiffusionConfig(model=str(model), device="cpu", prompt_cache_bytes=size)
        engine = DiffusionEngine(config)
        await engine.start()
        family = engine.inspect().family
        assert isinstance(family, Sdxl)
        cache = family.prompts.cache
        before = cache.hits
        for _ in range(2):
            await generate_images(engine, image_task(negative_prompt="blue", steps=1))
        assert cache.hits - before == hits
        await engine.stop()


async def test_brackets_steer_the_engines_images(engine: DiffusionEngine) -> None:
    """Unless a backslash makes signs of them, or the weight is 1."""
    (usual,) = await generate_images(engine, image_task(prompt="a red apple"))
    (strong,) = await generate_images(engine, image_task(prompt="a (red:3) apple"))
    (one,) = await generate_images(engine, image_task(prompt="a (red:1) apple"))
    assert not np.array_equal(usual, strong)
    assert np.array_equal(usual, one)
