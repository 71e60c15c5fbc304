"""Keeps what was encoded, within a bound of bytes; what was not used for longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from atelier_engines.diffusion.prompts.embedding import Embedding


class EmbeddingCache:
    """Embeddings by one set of text encoders on one device. Used by one thread at a time."""

    def __init__(self, max_bytes: int) -> None:
        """Hold at most `max_bytes` bytes of the device's memory; 0 keeps nothing."""
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, Embedding] = OrderedDict()
        self._nbytes = 0
        self._hits = 0
        self._misses = 0

    @property
    def nbytes(self) -> int:
        """Bytes that are held now."""
        return self._nbytes

    @property
    def hits(self) -> int:
        """How often something was asked for and found."""
        return self._hits

    @property
    def misses(self) -> int:
        """How often something was asked for and not found."""
        return self._misses

    def get(self, key: Hashable) -> Embedding | None:
        """What was kept under that key, if it is still here."""
        found = self._kept.get(key)
        if found is None:
            self._misses += 1
            return None
        self._hits += 1
        self._kept.move_to_end(key)
        return found

    def put(self, key: Hashable, embedding: Embedding) -> None:
        """Keep it, and let go of others for it; what is larger than the cache is not kept."""
        if embedding.nbytes > self._max_bytes:
            return
        replaced = self._kept.pop(key, None)
        if replaced is not None:
            self._nbytes -= replaced.nbytes
        self._kept[key] = embedding
        self._nbytes += embedding.nbytes
        while self._nbytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._nbytes -= oldest.nbytes

    def clear(self) -> None:
        """Let go of everything, to give the memory to something else."""
        self._kept.clear()
        self._nbytes = 0
