"""All 63 bits of a seed count; what seeds below 2**32 draw is what torch draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atelier_engines.diffusion import DiffusionEngine
from atelier_engines.local.random_numbers import make_generator
from tests.engines.diffusion.calls import generate_images, image_task


def draw(generator: torch.Generator) -> list[float]:
    """Noise: more numbers than one state of the generator gives."""
    drawn: list[float] = torch.randn(1000, generator=generator).tolist()
    return drawn


@pytest.mark.parametrize("seed", [0, 1, 7, 2**31, 2**32 - 1])
def test_small_seeds_are_those_of_torch(seed: int) -> None:
    """Whatever torch makes of them."""
    assert draw(make_generator(seed)) == draw(torch.Generator("cpu").manual_seed(seed))


def test_every_bit_counts() -> None:
    """Each of the 63, on top of another seed."""
    seeds = {7, *(7 ^ (1 << bit) for bit in range(63))}
    assert len({tuple(draw(make_generator(seed))) for seed in seeds}) == len(seeds) == 64


@pytest.mark.parametrize("seed", [2**32, 7 + 2**32, 2**63 - 1])
def test_large_seeds_are_those_of_the_mersenne_twister(seed: int) -> None:
    """Of a key of two words, as NumPy computes it; a torch that keeps its state in another way fails here."""
    key = np.array([seed % 2**32, seed // 2**32], np.uint32)
    words = np.random.RandomState(key).randint(0, 2**32, 2000, np.uint32)
    assert torch.rand(2000, generator=make_generator(seed)).tolist() == list(
        (words % 2**24) / 2**24
    )


async def test_images_of_seeds_with_the_same_lower_half_differ(engine: DiffusionEngine) -> None:
    """Each is the same again."""
    first, second, again = [
        (await generate_images(engine, image_task(seeds=(seed,))))[0]
        for seed in (7, 7 + 2**32, 7 + 2**32)
    ]
    assert not np.array_equal(first, second)
    assert np.array_equal(second, again)
