"""The embedding of a prompt: padding to a common length, and a cache bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedding:
    """An encoded prompt. It may be shared, so it must not be changed in place."""

    hidden: torch.Tensor
    """(1, tokens, width of all encoders together); the number of tokens is a multiple of 77."""
    pooled: torch.Tensor | None
    """(1, projection): of the first 77 tokens; None where the last encoder has no projection."""

    @property
    def nbytes(self) -> int:
        """Size in bytes on its device."""
        return self.hidden.nbytes + (0 if self.pooled is None else self.pooled.nbytes)


def zeros_like(embedding: Embedding) -> Embedding:
    """Zeros of the same shapes, which some models are trained to take for an empty prompt."""
    pooled = None if embedding.pooled is None else torch.zeros_like(embedding.pooled)
    return Embedding(hidden=torch.zeros_like(embedding.hidden), pooled=pooled)


def align(
    first: Embedding, second: Embedding, empty: Callable[[], Embedding]
) -> tuple[Embedding, Embedding]:
    """Pad two embeddings to the same number of tokens, so that they can be rows of one tensor.

    Args:
        first: one embedding.
        second: the other.
        empty: encodes the empty prompt, with which the shorter one is padded; called only if one is shorter.
    """
    tokens = max(first.hidden.shape[1], second.hidden.shape[1])
    return _pad(first, tokens, empty), _pad(second, tokens, empty)


def _pad(embedding: Embedding, tokens: int, empty: Callable[[], Embedding]) -> Embedding:
    missing = tokens - embedding.hidden.shape[1]
    if not missing:
        return embedding
    padding = empty().hidden
    copies = [padding] * (missing // padding.shape[1])
    return Embedding(hidden=torch.cat([embedding.hidden, *copies], dim=1), pooled=embedding.pooled)


class EmbeddingCache:
    """Keeps the embeddings of one set of text encoders; the least recently used one is dropped first.

    For one thread at a time.
    """

    def __init__(self, max_bytes: int) -> None:
        """Keep at most `max_bytes` bytes of the device's memory; 0 keeps nothing."""
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, Embedding] = OrderedDict()
        self._nbytes = 0
        self._hits = 0
        self._misses = 0

    @property
    def nbytes(self) -> int:
        """Bytes that are kept now."""
        return self._nbytes

    @property
    def hits(self) -> int:
        """Number of lookups that found an embedding."""
        return self._hits

    @property
    def misses(self) -> int:
        """Number of lookups that found none."""
        return self._misses

    def get(self, key: Hashable) -> Embedding | None:
        """The embedding of that key, if it is still kept."""
        found = self._entries.get(key)
        if found is None:
            self._misses += 1
            return None
        self._hits += 1
        self._entries.move_to_end(key)
        return found

    def put(self, key: Hashable, embedding: Embedding) -> None:
        """Keep an embedding and drop others for it; one larger than the cache is not kept."""
        if embedding.nbytes > self._max_bytes:
            return
        replaced = self._entries.pop(key, None)
        if replaced is not None:
            self._nbytes -= replaced.nbytes
        self._entries[key] = embedding
        self._nbytes += embedding.nbytes
        while self._nbytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._nbytes -= oldest.nbytes

    def clear(self) -> None:
        """Drop all embeddings, to free their memory."""
        self._entries.clear()
        self._nbytes = 0
