"""Which clips are kept, which of them go, and which a prompt gets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from atelier_engines.media import Samples
from atelier_engines.reuse import spectra
from atelier_engines.reuse.variants import Choose, Variant, VariantStore, Vector

RATE = 16000


def first(variants: Sequence[Variant]) -> int:
    """The one made first."""
    assert variants
    return 0


def by_spectrum(variants: Sequence[Variant]) -> int:
    """The older of the two most alike."""
    return spectra.choose_most_alike([one.spectrum for one in variants])


def tone(hertz: float, *, seconds: float = 0.5) -> Samples:
    """A sine in mono."""
    time = np.arange(round(seconds * RATE)) / RATE
    return Samples(
        array=np.sin(2 * np.pi * hertz * time, dtype=np.float32)[:, None], sample_rate=RATE
    )


def vector(*values: float) -> Vector:
    """Of length 1."""
    made = np.array(values, np.float32)
    return np.asarray(made / np.linalg.norm(made), np.float32)


def variant(
    prompt: str = "rain",
    *,
    seed: int = 1,
    group: bytes = b"g",
    embedding: Vector | None = None,
    hertz: float = 440,
) -> Variant:
    """A clip of 32 kB."""
    media = tone(hertz)
    return Variant(
        group=group,
        prompt=prompt,
        embedding=embedding,
        seed=seed,
        media=media,
        spectrum=spectra.describe(media),
    )


def store(
    *, max_bytes: int = 2**20, max_per_prompt: int = 3, choose: Choose = first
) -> VariantStore:
    """An empty one."""
    return VariantStore(max_bytes=max_bytes, max_per_prompt=max_per_prompt, choose=choose)


def seeds(kept: VariantStore, prompt: str = "rain", group: bytes = b"g") -> list[int]:
    """Those of the clips of a prompt."""
    return [one.variant.seed for one in kept.find(group, prompt, None, threshold=0.9, most=9)]


def test_a_clip_serves_its_prompt_in_its_group() -> None:
    """And no other one."""
    kept = store()
    kept.add(variant(seed=5))
    assert seeds(kept, "Rain.") == [5]
    assert seeds(kept, "wind") == []
    assert seeds(kept, group=b"other") == []


def test_similar_prompts_are_found_the_most_similar_first() -> None:
    """Up to so many; below the threshold, and where words decide otherwise, none."""
    kept, asked = store(), vector(1, 0)
    kept.add(variant("soft rain fell", seed=1, embedding=vector(1, 0.2)))
    kept.add(variant("the rain falls", seed=2, embedding=vector(1, 0.1)))
    kept.add(variant("wind blows", seed=3, embedding=vector(1, 0.5)))
    kept.add(variant("three rains", seed=4, embedding=asked))
    kept.add(variant("no rain", seed=5, embedding=asked))
    kept.add(variant("rain falls", seed=6))

    def find(most: int) -> list[tuple[int, float]]:
        found = kept.find(b"g", "rain falls", asked, threshold=0.95, most=most)
        return [(one.variant.seed, round(one.similarity, 3)) for one in found]

    assert find(9) == [(6, 1.0), (2, 0.995)]
    assert find(1) == [(6, 1.0)]


def test_what_was_used_longest_ago_makes_room() -> None:
    """Bytes are counted, of every prompt and group."""
    size = variant().size
    kept = store(max_bytes=2 * size)
    one, other = variant("a", seed=1), variant("b", seed=2)
    kept.add(one)
    kept.add(other)
    kept.use(one)
    kept.add(variant("c", seed=3))
    assert (seeds(kept, "a"), seeds(kept, "b"), seeds(kept, "c")) == ([1], [], [3])
    assert kept.held_bytes == 2 * size
    kept.clear()
    assert (kept.held_bytes, seeds(kept, "a")) == (0, [])


def test_a_clip_larger_than_all_room_is_not_kept() -> None:
    """It would push out everything else first."""
    kept = store(max_bytes=variant().size - 1)
    kept.add(variant())
    assert kept.held_bytes == 0


def test_a_prompt_has_at_most_so_many_clips() -> None:
    """One too many goes as the strategy says; other prompts keep theirs."""
    kept = store(max_per_prompt=2)
    for seed in (1, 2, 3):
        kept.add(variant(seed=seed))
        kept.add(variant("wind", seed=seed + 10))
    assert (seeds(kept), seeds(kept, "wind")) == ([2, 3], [12, 13])


def test_diversity_lets_the_older_of_the_two_most_alike_go() -> None:
    """440 and 450 Hz are in one band, 3 kHz is not."""
    kept = store(max_per_prompt=2, choose=by_spectrum)
    for seed, hertz in ((1, 3000.0), (2, 440.0), (3, 450.0)):
        kept.add(variant(seed=seed, hertz=hertz))
    assert seeds(kept) == [1, 3]


@pytest.mark.parametrize("seconds", [0.01, 0.3, 2.0])
def test_spectra_of_any_length_are_compared(seconds: float) -> None:
    """Also of clips shorter than one frame, and of silence."""
    low, near, high = (spectra.describe(tone(hertz, seconds=seconds)) for hertz in (300, 310, 5000))
    assert low @ near > low @ high
    silence = Samples(array=np.zeros((4000, 2), np.float32), sample_rate=RATE)
    assert np.isfinite(spectra.describe(silence)).all()
