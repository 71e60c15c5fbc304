"""What text encoders make of a text, and how two of them come to the same length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedding:
    """A text as the denoiser reads it. May be shared: not to be changed in place."""

    hidden: torch.Tensor
    """(1, tokens, width of all encoders together); tokens are a multiple of 77."""
    pooled: torch.Tensor | None
    """(1, projection): of the first 77 tokens; None where the last encoder has no projection."""

    @property
    def nbytes(self) -> int:
        """Bytes that it holds on its device."""
        return self.hidden.nbytes + (0 if self.pooled is None else self.pooled.nbytes)


def zeros_like(embedding: Embedding) -> Embedding:
    """Zeros of the same shapes: what models that were trained so take for an empty text."""
    pooled = None if embedding.pooled is None else torch.zeros_like(embedding.pooled)
    return Embedding(hidden=torch.zeros_like(embedding.hidden), pooled=pooled)


def align(
    first: Embedding, second: Embedding, empty: Callable[[], Embedding]
) -> tuple[Embedding, Embedding]:
    """Both with the same number of tokens, so that they can be rows of one tensor.

    Args:
        first: one text.
        second: another.
        empty: encodes the empty text, which fills up the shorter one; only called where there is
            a shorter one.
    """
    tokens = max(first.hidden.shape[1], second.hidden.shape[1])
    return _pad(first, tokens, empty), _pad(second, tokens, empty)


def _pad(embedding: Embedding, tokens: int, empty: Callable[[], Embedding]) -> Embedding:
    missing = tokens - embedding.hidden.shape[1]
    if not missing:
        return embedding
    blank = empty().hidden
    copies = [blank] * (missing // blank.shape[1])
    return Embedding(hidden=torch.cat([embedding.hidden, *copies], dim=1), pooled=embedding.pooled)
