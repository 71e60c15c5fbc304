"""What is kept of encoded prompts, and what is let go."""

from __future__ import annotations

import torch

from atelier_engines.diffusion.prompts.encoder import Embedding, EmbeddingCache

ONE = Embedding(hidden=torch.zeros(1, 77, 4), pooled=torch.zeros(1, 8))
BYTES = 77 * 4 * 4 + 8 * 4


def test_it_gives_back_what_it_keeps_and_counts() -> None:
    """The same tensors, under their key alone."""
    cache = EmbeddingCache(10 * BYTES)
    assert cache.get("a") is None
    cache.put("a", ONE)
    assert cache.get("a") is ONE
    assert cache.get("b") is None
    assert (cache.hits, cache.misses, cache.nbytes) == (1, 2, BYTES)


def test_what_was_not_used_for_longest_goes_first() -> None:
    """As many stay as the bytes allow, to the byte."""
    cache = EmbeddingCache(2 * BYTES)
    cache.put("a", ONE)
    cache.put("b", ONE)
    cache.get("a")
    cache.put("c", ONE)
    assert [key for key in "abc" if cache.get(key)] == ["a", "c"]
    assert cache.nbytes == 2 * BYTES


def test_one_that_is_too_large_drives_nothing_out() -> None:
    """It is simply not kept; nor is anything in a cache without bytes."""
    cache = EmbeddingCache(BYTES)
    cache.put("a", ONE)
    cache.put("b", Embedding(hidden=torch.zeros(1, 154, 4), pooled=None))
    assert cache.get("a") is ONE
    assert cache.get("b") is None
    off = EmbeddingCache(0)
    off.put("a", ONE)
    assert off.get("a") is None


def test_keeping_again_under_the_same_key_counts_once() -> None:
    """Bytes are those that are held."""
    cache = EmbeddingCache(3 * BYTES)
    cache.put("a", ONE)
    cache.put("a", ONE)
    assert cache.nbytes == BYTES
    cache.clear()
    assert cache.nbytes == 0
    assert cache.get("a") is None
