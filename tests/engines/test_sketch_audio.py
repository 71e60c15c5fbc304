"""The audio of the sketch engine: it follows its words, loops without a seam, and says what it understood."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from atelier_engines.sketch.audio import layers
from atelier_engines.sketch.audio.recipes import build_layers
from atelier_engines.sketch.audio.scene import Scene
from atelier_engines.sketch.audio.words import SYNONYMS, VOCABULARY, read_prompt
from atelier_engines.task import AudioTask
from tests.conftest import ROOT

Floats = NDArray[np.float32]
RATE = 16000


def render(
    prompt: str, seconds: float = 3.0, *, seed: int = 7, parts: int = 1, **task: object
) -> Floats:
    """The audio of a prompt, computed in so many parts."""
    made = AudioTask(
        **{  # type: ignore[arg-type]  # fields by name
            "prompt": prompt,
            "duration_seconds": seconds,
            "seed": seed,
            "sample_rate": RATE,
            "channels": 1,
            **task,
        }
    )
    scene = Scene(made, read_prompt(prompt))
    samples = np.zeros((scene.length, made.channels), np.float32)
    for part in range(parts):
        scene.fill(samples, scene.length * part // parts, scene.length * (part + 1) // parts)
    scene.finish(samples)
    return samples


def centroid(array: Floats) -> float:
    """Mean frequency in hertz, by power."""
    power = np.abs(np.fft.rfft(array[:, 0])) ** 2
    return float((np.fft.rfftfreq(len(array), 1 / RATE) * power).sum() / power.sum())


def level(array: Floats) -> float:
    """Root mean square."""
    return float(np.sqrt((array.astype(np.float64) ** 2).mean()))


@pytest.mark.parametrize("name", SYNONYMS)
def test_every_name_is_heard_and_loops_without_a_seam(name: str) -> None:
    """At every rate and length; over its end it bends no more than inside; the same in parts as at once."""
    looped = np.zeros((0, 1), np.float32)
    for rate, seconds, channels in ((44100, 0.1, 2), (16000, 3.0, 1)):
        looped = render(
            name, seconds, sample_rate=rate, channels=channels, seamless_loop=True, parts=1
        )
        assert looped.shape == (round(rate * seconds), channels)
        assert 0.02 < np.abs(looped).max() <= 0.81
    bend = np.abs(np.diff(np.concatenate([looped, looped[:2]]), n=2, axis=0))[:, 0]
    strokes = name in {"bell", "drum", "click", "footsteps", "heartbeat", "cricket", "thunder"}
    assert bend[-2:].max() <= (bend[:-2].max() if strokes else 1.5 * np.quantile(bend, 0.999))
    parts = render(name, parts=7, seamless_loop=True)
    assert np.allclose(parts, looped, atol=1e-6)


def test_every_name_is_another_audio_and_every_seed_too() -> None:
    """And the same seed gives the same."""
    made = [render(name, 1.0).tobytes() for name in SYNONYMS]
    assert len(set(made)) == len(made)
    assert render("rain", seed=7).tobytes() == render("raining", seed=7).tobytes()
    assert render("rain", seed=7).tobytes() != render("rain", seed=8).tobytes()


def test_names_have_their_place_in_the_spectrum() -> None:
    """Low ones are low, and bright ones bright."""
    middle = {
        name: centroid(render(name)) for name in ("thunder", "heartbeat", "wind", "bird", "rain")
    }
    assert max(middle["thunder"], middle["heartbeat"], middle["wind"]) < 500
    assert min(middle["bird"], middle["rain"]) > 1500


def test_words_before_a_name_change_it() -> None:
    """Quieter and louder; darker from afar; more often."""
    assert level(render("gentle wind")) < 0.6 * level(render("wind")) < level(render("loud wind"))
    assert centroid(render("distant rain")) < 0.5 * centroid(render("rain"))
    often, rare = (np.abs(render(f"{how} click", 6.0)) > 0.05 for how in ("fast", "slow"))
    assert often.sum() > 2 * rare.sum()


def test_what_is_mixed_is_the_sum() -> None:
    """Each is what it is alone; the bell of a mix has no other words."""
    both = render("gentle rain and a distant bell", seamless_loop=True)
    alone = [render(prompt, seamless_loop=True) for prompt in ("gentle rain", "distant bell")]
    assert np.allclose(both, alone[0] + alone[1], atol=1e-5)


def test_long_noise_is_periodic_too() -> None:
    """What is longer than the noise that is made at once is made of it, crossfaded, at one loudness throughout."""
    frame = layers.Frame(length=3 * 2**19 + 7, rate=RATE, channels=2, loops=True)
    request = read_prompt("static").requests[0]
    (noise,) = build_layers(frame, np.random.default_rng(3), request)
    made = np.zeros((frame.length, 2), np.float32)
    noise.add(made, 0)
    power = (made[: 3 * 2**19] ** 2).reshape(24, -1).mean(axis=1)
    assert power.max() < 1.4 * power.min()
    bend = np.abs(np.diff(np.concatenate([made, made[:2]]), n=2, axis=0))
    assert bend[-2:].max() < bend[:-2].max()


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("gentle rain and a distant bell", "heard are rain (gentle), bell (distant)"),
        ("RAIN, rain; Rain", "heard are rain"),
        ("wind without rain", "heard are wind"),
        ("no birds, but crickets", "heard are cricket"),
        ("a cathedral in the rain", "heard are rain; not understood: cathedral"),
        ("ein Löwe brüllt", "not understood: ein, löwe, brüllt"),
        ("", ""),
        ("the 12 of the", ""),
    ],
)
def test_a_prompt_is_read_word_by_word(prompt: str, told: str) -> None:
    """What is heard, how, and what means nothing here."""
    assert read_prompt(prompt).describe() == told


def test_the_page_lists_every_word() -> None:
    """Names with their synonyms, and the words before them."""
    page = (ROOT / "docs/engines/sketch.md").read_text()
    for name, synonyms in SYNONYMS.items():
        assert f"| `{name}` | {', '.join(synonyms)} |" in page
    assert set(re.findall(r"[a-z]+", page)) >= VOCABULARY
