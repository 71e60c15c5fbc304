"""Splits prompts of any length into chunks of tokens that a text encoder can encode."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from atelier_engines.diffusion.prompts.syntax import Sections, WeightedSpan

if TYPE_CHECKING:
    import torch
    from transformers import CLIPTokenizer

_MAX_BACKTRACK = 20
"""Number of tokens by which a chunk may be shorter to end behind a comma or a word.

Source: AUTOMATIC1111's stable-diffusion-webui, setting `comma_padding_backtrack`.
"""

_WORD_END = "</w>"
"""Ends the last token of each word in CLIP's vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The tokens of one run of a text encoder."""

    ids: tuple[int, ...]
    """Token ids, as many as the encoder takes: start, words, end, padding."""
    weights: tuple[float, ...]
    """Weight of each token; 1 for start, end and padding."""
    vectors: Mapping[int, torch.Tensor] = field(default_factory=dict)
    """By place, the vectors that stand there and not that of the token; (width,) each."""

    @property
    def is_weighted(self) -> bool:
        """Whether any token has another weight than 1."""
        return any(weight != 1 for weight in self.weights)


Vectors = Mapping[str, "torch.Tensor"]
"""What stands for single characters of a text: (vectors, width) for each of them."""
_NO_VECTORS: Vectors = {}


@dataclass(frozen=True, slots=True)
class _Token:
    """A token, or a vector in the place of one."""

    id: int
    weight: float
    vector: torch.Tensor | None = None
    continues: bool = False
    """Whether it is not the first vector of its embedding, which is not split."""


def split_into_chunks(
    tokenizer: CLIPTokenizer, sections: Sections, vectors: Vectors = _NO_VECTORS
) -> list[Chunk]:
    """Split the sections into chunks: at least one, and none that spans two sections.

    A chunk ends behind the last comma near its full length, else behind the last whole word, else at its
    full length. The vectors of a character are in one chunk, unless there are more than fit into one.
    """
    return [
        _chunk(tokenizer, part)
        for section in sections
        for part in _parts(tokenizer, _tokens(tokenizer, section, vectors))
    ]


def empty_chunk(tokenizer: CLIPTokenizer) -> Chunk:
    """The chunk of an empty prompt."""
    return _chunk(tokenizer, ())


def _tokens(
    tokenizer: CLIPTokenizer, section: Sequence[WeightedSpan], vectors: Vectors
) -> list[_Token]:
    stand_in = _ordinary_id(tokenizer)
    found: list[_Token] = []
    for span in section:
        for text in _split(span.text, vectors):
            if text in vectors:
                found += [
                    _Token(stand_in, span.weight, vector, continues=index > 0)
                    for index, vector in enumerate(vectors[text])
                ]
            else:
                ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
                found += [_Token(index, span.weight) for index in ids]
    return found


def _split(text: str, vectors: Vectors) -> list[str]:
    """The text in parts: each character that has vectors is one of its own."""
    if not vectors:
        return [text]
    return re.split(f"([{''.join(map(re.escape, vectors))}])", text)


def _ordinary_id(tokenizer: CLIPTokenizer) -> int:
    """An id that means neither start nor end nor padding; by these the encoder finds where a text ends."""
    special = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    return next(index for index in range(len(special) + 1) if index not in special)


def _parts(tokenizer: CLIPTokenizer, tokens: Sequence[_Token]) -> Iterator[Sequence[_Token]]:
    start = 0
    while True:
        end = _end(tokenizer, tokens, start)
        yield tokens[start:end]
        if end == len(tokens):
            return
        start = end


def _end(tokenizer: CLIPTokenizer, tokens: Sequence[_Token], start: int) -> int:
    """Index at which the chunk that begins at `start` ends."""
    full = start + tokenizer.model_max_length - 2
    if full >= len(tokens):
        return len(tokens)
    full = _first_of_embedding(tokens, start, full)
    ends = range(full, max(full - _MAX_BACKTRACK, start), -1)
    words = [_word(tokenizer, tokens, end) for end in ends]
    for good in ("," + _WORD_END, _WORD_END):
        for end, word in zip(ends, words, strict=True):
            if word.endswith(good):
                return end
    return full


def _first_of_embedding(tokens: Sequence[_Token], start: int, end: int) -> int:
    """The end, moved before the embedding that it would split; not if that begins the chunk."""
    first = end
    while tokens[first].continues:
        first -= 1
    return end if first <= start else first


def _word(tokenizer: CLIPTokenizer, tokens: Sequence[_Token], end: int) -> str:
    """The last token of a chunk that ends there; a whole word where an embedding ends."""
    token = tokens[end - 1]
    if token.vector is not None:
        return "" if tokens[end].continues else _WORD_END
    return str(tokenizer.convert_ids_to_tokens([token.id])[0])


def _chunk(tokenizer: CLIPTokenizer, part: Sequence[_Token]) -> Chunk:
    padding = tokenizer.model_max_length - 2 - len(part)
    ids = [token.id for token in part]
    weights = [token.weight for token in part]
    return Chunk(
        ids=(
            tokenizer.bos_token_id,
            *ids,
            tokenizer.eos_token_id,
            *[tokenizer.pad_token_id] * padding,
        ),
        weights=(1.0, *weights, *[1.0] * (1 + padding)),
        vectors={
            place: token.vector
            for place, token in enumerate(part, start=1)
            if token.vector is not None
        },
    )
