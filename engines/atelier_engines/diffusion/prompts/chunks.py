"""Texts of any length in chunks that a text encoder can read, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from atelier_engines.diffusion.prompts.syntax import Sections, WeightedSpan

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

_NEAR = 20
"""How many tokens a chunk may be shorter for the sake of a good place to cut.

Source: AUTOMATIC1111's stable-diffusion-webui, setting `comma_padding_backtrack`.
"""

_WORD_END = "</w>"
"""Ends the last token of each word in CLIP's vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What a text encoder reads at once."""

    ids: tuple[int, ...]
    """As many as the encoder reads: start, words, end, padding."""
    weights: tuple[float, ...]
    """One for each of `ids`; 1 for start, end and padding."""

    @property
    def is_weighted(self) -> bool:
        """Whether any token weighs more or less than 1."""
        return any(weight != 1 for weight in self.weights)


_Token = tuple[int, float]
"""Its id and its weight."""


def split_into_chunks(tokenizer: CLIPTokenizer, sections: Sections) -> list[Chunk]:
    """The sections in chunks, all words and at least one chunk. No chunk spans two sections.

    A chunk is cut behind the last comma near its end, else behind the last whole word, else where
    it is full.
    """
    return [
        _chunk(tokenizer, part)
        for section in sections
        for part in _parts(tokenizer, _tokens(tokenizer, section))
    ]


def empty_chunk(tokenizer: CLIPTokenizer) -> Chunk:
    """The chunk of a text without words."""
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
    """Where the chunk that begins at `start` ends."""
    full = start + tokenizer.model_max_length - 2
    if full >= len(tokens):
        return len(tokens)
    ends = range(full, max(full - _NEAR, start), -1)
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
