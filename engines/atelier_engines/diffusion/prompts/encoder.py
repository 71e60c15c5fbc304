"""Encodes prompts of any length, with any runtime of the text encoders."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, assert_never

import torch

from atelier_engines.diffusion.config import PromptSyntax
from atelier_engines.diffusion.prompts import syntax
from atelier_engines.diffusion.prompts.chunks import Chunk, empty_chunk, split_into_chunks
from atelier_engines.diffusion.prompts.embedding import Embedding, EmbeddingCache
from atelier_engines.diffusion.runtimes.base import TextEncoder, TextEncoderOutput

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


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

    def encode(self, text: str, *, adapters: Hashable = None) -> Embedding:
        """The embedding of a prompt, from the cache or newly encoded.

        Each chunk is encoded separately. For one chunk with all weights 1, the result is bit-identical to that
        of diffusers' pipelines.

        Args:
            text: a prompt of any length; it may be empty.
            adapters: identifies the LoRAs that are active in the text encoders.
        """
        key = (text, adapters)
        found = self._cache.get(key)
        if found is None:
            found = self._encode(text, adapters)
            self._cache.put(key, found)
        return found

    def _encode(self, text: str, adapters: Hashable) -> Embedding:
        rows = self._chunks(text)
        states = [[self._run(encoder, chunk) for chunk in row] for encoder, row in enumerate(rows)]
        hidden = [[state.prompt_embeds for state in row] for row in states]
        if any(chunk.is_weighted for row in rows for chunk in row):
            widths = [tensors[0].shape[-1] for tensors in hidden]
            blanks = torch.split(self.encode("", adapters=adapters).hidden, widths, dim=-1)
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

    def _chunks(self, text: str) -> list[list[Chunk]]:
        """The same number of chunks for each encoder."""
        sections = self._sections(text)
        rows = [split_into_chunks(tokenizer, sections) for tokenizer in self._tokenizers]
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

    def _run(self, encoder: int, chunk: Chunk) -> TextEncoderOutput:
        return self._text_encoders[encoder].encode(torch.tensor([chunk.ids]), layer=self._layer)


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
