"""Encodes prompts of any length to embeddings, and caches these, with any runtime of the text encoders."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

import torch

from atelier_engines.diffusion.config import PromptSyntax
from atelier_engines.diffusion.embeddings.reading import TextualInversion
from atelier_engines.diffusion.prompts import syntax
from atelier_engines.diffusion.prompts.chunks import Chunk, empty_chunk, split_into_chunks
from atelier_engines.diffusion.prompts.marks import MarkedPrompt, mark_names
from atelier_engines.diffusion.runtimes.base import TextEncoder, TextEncoderOutput

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


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


class PromptEncoder:
    """Encodes prompts for one model. For one thread at a time."""

    def __init__(
        self,
        *,
        text_encoders: Sequence[TextEncoder],
        tokenizers: Sequence[CLIPTokenizer],
        layer: int | None,
        prompt_syntax: PromptSyntax,
        cache: EmbeddingCache,
    ) -> None:
        """Encode with all text encoders of a model.

        Args:
            text_encoders: the model's, in its family's order.
            tokenizers: one for each, in their order.
            layer: see TextEncoder.encode.
            prompt_syntax: whether brackets are weights or words.
            cache: keeps what these text encoders, and no others, have encoded.
        """
        self._text_encoders = tuple(text_encoders)
        self._tokenizers = tuple(tokenizers)
        self._layer = layer
        self._syntax = prompt_syntax
        self._cache = cache

    @property
    def cache(self) -> EmbeddingCache:
        """The cache of its embeddings, which other encoders may share."""
        return self._cache

    def encode(
        self,
        text: str,
        *,
        adapters: Hashable = None,
        inversions: Sequence[TextualInversion] = (),
        skip: int = 0,
    ) -> Embedding:
        """The embedding of a prompt, from the cache or newly encoded.

        Each chunk is encoded separately. For one chunk with all weights 1, the result is bit-identical to that
        of diffusers' pipelines.

        Args:
            text: a prompt of any length; it may be empty.
            adapters: identifies the LoRAs that are active in the text encoders.
            inversions: the textual inversions whose names in the text stand for their vectors.
            skip: how many layers before the usual one the output is taken from.
        """
        prompt = mark_names(text, inversions)
        key = (text, adapters, skip, tuple((one.name, one.digest) for one in prompt.marks.values()))
        found = self._cache.get(key)
        if found is None:
            found = self._encode(prompt, adapters, skip)
            self._cache.put(key, found)
        return found

    def _encode(self, prompt: MarkedPrompt, adapters: Hashable, skip: int) -> Embedding:
        rows = self._chunks(prompt)
        states = [
            [self._run(encoder, chunk, skip) for chunk in row] for encoder, row in enumerate(rows)
        ]
        hidden = [[state.prompt_embeds for state in row] for row in states]
        if any(chunk.is_weighted for row in rows for chunk in row):
            widths = [tensors[0].shape[-1] for tensors in hidden]
            blanks = torch.split(
                self.encode("", adapters=adapters, skip=skip).hidden, widths, dim=-1
            )
            hidden = [
                [
                    _apply_weights(tensor, chunk.weights, blank)
                    for tensor, chunk in zip(tensors, row, strict=True)
                ]
                for tensors, row, blank in zip(hidden, rows, blanks, strict=True)
            ]
        return Embedding(
            hidden=torch.cat([torch.cat(tensors, dim=1) for tensors in hidden], dim=-1),
            pooled=states[-1][0].pooled_prompt_embeds,
        )

    def _chunks(self, prompt: MarkedPrompt) -> list[list[Chunk]]:
        """The same number of chunks for each encoder."""
        sections = self._sections(prompt.text)
        rows = [
            split_into_chunks(tokenizer, sections, prompt.vectors(encoder))
            for encoder, tokenizer in enumerate(self._tokenizers)
        ]
        most = max(len(row) for row in rows)
        return [
            row + [empty_chunk(tokenizer)] * (most - len(row))
            for row, tokenizer in zip(rows, self._tokenizers, strict=True)
        ]

    def _sections(self, text: str) -> syntax.Sections:
        match self._syntax:
            case "weighted":
                return syntax.parse_weighted(text)
            case "plain":
                return syntax.parse_plain(text)
            case _:
                assert_never(self._syntax)

    def _run(self, encoder: int, chunk: Chunk, skip: int) -> TextEncoderOutput:
        """Run a text encoder; where its usual output is normed, so are those of earlier layers.

        Source: diffusers 0.42.1, StableDiffusionPipeline.encode_prompt and that of XL, `clip_skip`.
        """
        normed = bool(skip) and self._layer is None
        layer = (self._layer or -1) - skip if skip else self._layer
        return self._text_encoders[encoder].encode(
            torch.tensor([chunk.ids]), layer=layer, normed=normed, vectors=chunk.vectors
        )


def _apply_weights(
    hidden: torch.Tensor, weights: Sequence[float], blank: torch.Tensor
) -> torch.Tensor:
    """Scale the difference between each token and the same position of the empty prompt by its weight.

    Tokens of weight 1 are not changed, and a weight of 0 gives the empty prompt's token. Nothing is divided by
    a mean that may be almost zero, as AUTOMATIC1111's webui does.

    Source: ComfyUI, comfy/sd1_clip.py, ClipTokenWeightEncoder; compel does the same above 1.

    Args:
        hidden: (1, tokens, width).
        weights: one for each token.
        blank: shaped like `hidden`, of the empty prompt.
    """
    places = [place for place, weight in enumerate(weights) if weight != 1]
    if not places:
        return hidden
    factors = hidden.new_tensor([weights[place] for place in places]).view(1, -1, 1)
    start = blank[:, places]
    made = hidden.clone()
    made[:, places] = start + (hidden[:, places] - start) * factors
    return made
