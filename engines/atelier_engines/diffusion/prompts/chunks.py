"""Splits prompts of any length into chunks of tokens that a text encoder can encode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atelier_engines.diffusion.prompts.syntax import Sections, WeightedSpan

if TYPE_CHECKING:
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

    @property
    def is_weighted(self) -> bool:
        """Whether any token has another weight than 1."""
        return any(weight != 1 for weight in self.weights)


_Token = tuple[int, float]
"""Id and weight of a token."""


def split_into_chunks(tokenizer: CLIPTokenizer, sections: Sections) -> list[Chunk]:
    """Split the sections into chunks: at least one, and none that spans two sections.

    A chunk ends behind the last comma near its full length, else behind the last whole word, else at its
    full length.
    """
    return [
        _chunk(tokenizer, part)
        for section in sections
        for part in _parts(tokenizer, _tokens(tokenizer, section))
    ]


def empty_chunk(tokenizer: CLIPTokenizer) -> Chunk:
    """The chunk of an empty prompt."""
    return _chunk(tokenizer, ())


def _tokens(tokenizer: CLIPTokenizer, section: Sequence[WeightedSpan]) -> list[_Token]:
    return [
        (index, span.weight)
        for span in section
        for index in tokenizer(span.text, add_special_tokens=False, verbose=False).input_ids
    ]


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
    ends = range(full, max(full - _MAX_BACKTRACK, start), -1)
    words = tokenizer.convert_ids_to_tokens([tokens[end - 1][0] for end in ends])
    for good in ("," + _WORD_END, _WORD_END):
        for end, word in zip(ends, words, strict=True):
            if word.endswith(good):
                return end
    return full


def _chunk(tokenizer: CLIPTokenizer, part: Sequence[_Token]) -> Chunk:
    padding = tokenizer.model_max_length - 2 - len(part)
    ids = [index for index, _ in part]
    weights = [weight for _, weight in part]
    return Chunk(
        ids=(
            tokenizer.bos_token_id,
            *ids,
            tokenizer.eos_token_id,
            *[tokenizer.pad_token_id] * padding,
        ),
        weights=(1.0, *weights, *[1.0] * (1 + padding)),
    )
