"""The speech engine says what it is asked to, with the voice that is in its package."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("hibari", reason="the extra `speech` is not installed")

from atelier_engines.conformance import EngineConformance
from atelier_engines.engine import Engine
from atelier_engines.errors import InvalidTaskError
from atelier_engines.event import Output, Stage, Step
from atelier_engines.speech import ENGINE
from atelier_engines.speech.config import SpeechConfig
from atelier_engines.speech.text import break_long_words, split_phonemes
from atelier_engines.task import AudioTask
from tests.engines.audio_clips import clip, events, task
from tests.server.test_imports import modules_after

RATE = 24000
WORDS = "The keeper counted the waves."


def words(prompt: str, **fields: object) -> AudioTask:
    """A task to say that."""
    own = {"sample_rate": RATE, "channels": 1, "steps": None, "guidance": None}
    return task(prompt=prompt, **own, **fields)


class TestSpeech(EngineConformance):
    """As it comes."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Engine:
        """Not started."""
        return ENGINE.create(SpeechConfig())


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Started."""
    made = ENGINE.create(SpeechConfig())
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


async def test_more_words_take_longer_and_the_duration_has_no_effect(engine: Engine) -> None:
    """About three words a second."""
    short = await clip(engine, words(WORDS))
    assert 1.0 < len(short) / RATE < 4.0
    assert np.array_equal(short, await clip(engine, words(WORDS, duration_seconds=9.0)))
    assert len(await clip(engine, words(f"{WORDS} Nobody answered."))) > len(short)


async def test_it_is_a_voice_and_no_noise(engine: Engine) -> None:
    """Most of the power is where a voice has it, and there are pauses: the level varies."""
    made = (await clip(engine, words(WORDS)))[:, 0]
    power = np.abs(np.fft.rfft(made)) ** 2
    frequencies = np.fft.rfftfreq(len(made), 1 / RATE)
    voiced = power[(frequencies > 80) & (frequencies < 4000)].sum()
    assert voiced / power.sum() > 0.8
    frames = made[: len(made) // 480 * 480].reshape(-1, 480)
    level = np.sqrt((frames**2).mean(axis=1))
    assert np.percentile(level, 95) > 10 * np.percentile(level, 5)


async def test_the_speed_is_the_tasks_and_else_the_configured_one(engine: Engine) -> None:
    """Twice as fast is about half as long."""
    plain = await clip(engine, words(WORDS))
    fast = await clip(engine, words(WORDS, options={"speed": 2.0}))
    assert 0.4 < len(fast) / len(plain) < 0.65
    quick = ENGINE.create(SpeechConfig(speed=2.0))
    await quick.start()
    assert np.array_equal(fast, await clip(quick, words(WORDS)))
    await quick.stop()


async def test_each_sentence_is_a_step(engine: Engine) -> None:
    """Of as many as the text has."""
    found = await events(engine, words("One. Two! Dr. Three?\nFour"))
    steps = [(event.index, event.total) for event in found if isinstance(event, Step)]
    assert steps == [(index, 4) for index in range(1, 5)]


@pytest.mark.parametrize(
    "nothing", [" ", "日本語", "😀", "- - -", ".", "?! ...", "…", "“,”", "(", "'", "[x](/./)"]
)
async def test_a_prompt_without_words_is_refused(engine: Engine, nothing: str) -> None:
    """It is not silence."""
    with pytest.raises(InvalidTaskError, match="it reads English"):
        await clip(engine, words(nothing))


@pytest.mark.parametrize("word", ["abcdefgh", "a-b.c/d1"])
async def test_a_long_word_is_said_to_its_end(engine: Engine, word: str) -> None:
    """Five times as much takes about five times as long; the package alone stops after 24 letters."""
    short, long = [len(await clip(engine, words(word * count))) for count in (3, 15)]
    assert 3 < long / short < 7


async def test_a_number_without_a_name_is_said_digit_by_digit(engine: Engine) -> None:
    """The package alone fails on it."""
    spelled = await clip(engine, words(" ".join("1" * 37)))
    assert np.array_equal(await clip(engine, words("1" * 37)), spelled)


@pytest.mark.parametrize("prompt", ["a1" * 1000, "x" * 2000, "9" * 2000, "aB" * 1000, "so " * 600])
def test_what_the_reader_gets_and_gives_is_bounded(prompt: str) -> None:
    """Time and memory grow with both; nothing is left out."""
    broken = break_long_words(prompt)
    assert broken.replace(" ", "") == prompt.replace(" ", "")
    assert all(len(word) <= 40 or word.isalpha() for word in broken.split())
    parts = list(split_phonemes(prompt))
    assert max(map(len, parts)) <= 400
    assert "".join(parts).replace(" ", "") == prompt.replace(" ", "")


async def test_digits_of_other_scripts_are_numbers(engine: Engine) -> None:
    """Also those of scripts that do not count by tens."""
    assert np.array_equal(await clip(engine, words("room ፩")), await clip(engine, words("room 1")))


async def test_words_that_are_not_said_are_told(engine: Engine) -> None:
    """With the others said."""
    (output,) = [
        event
        for event in await events(engine, words("hello 日本語, 你好"))
        if isinstance(event, Output)
    ]
    (note,) = output.notes
    assert note.field == "prompt"
    assert "'日本語', '你好'" in note.text
    assert not [
        event.notes
        for event in await events(engine, words("hello"))
        if isinstance(event, Output) and event.notes
    ]


async def test_a_voice_that_is_loaded_on_demand_is_the_same() -> None:
    """The first task loads it, and says so; what it is is known before."""
    at_once, late = (ENGINE.create(SpeechConfig(load_on_demand=on)) for on in (False, True))
    await at_once.start()
    await late.start()
    assert late.capabilities == at_once.capabilities
    assert late.capabilities.audio is not None
    assert late.capabilities.audio.models[0].digest
    await late.check()
    first, second = [await events(late, words(WORDS)) for _ in range(2)]
    assert (first[0], second[0]) == (Stage(name="load"), Stage(name="read"))
    assert np.array_equal(await clip(late, words(WORDS)), await clip(at_once, words(WORDS)))
    await late.stop()
    await at_once.stop()


class TestOnDemand(EngineConformance):
    """Loaded by its first task."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls) -> Engine:
        """Not started."""
        return ENGINE.create(SpeechConfig(load_on_demand=True))


LATE = """
import asyncio, json, sys
from atelier_engines import registry
found = registry.load("speech")
engine = found.create(found.config(load_on_demand=True))
asyncio.run(engine.start())
print(json.dumps(sorted(sys.modules)))
"""


def test_a_voice_that_is_loaded_on_demand_is_not_imported_before() -> None:
    """A server that nobody asks to speak is no heavier for it."""
    assert not {"hibari", "onnxruntime"} & modules_after(LATE)
