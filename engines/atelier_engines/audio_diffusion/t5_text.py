"""Texts and what a T5, or a T5Gemma, makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    T5EncoderModel,
    T5GemmaEncoderModel,
)

from atelier_engines.errors import InvalidTaskError, ModelMissingError
from atelier_engines.local.components import EngineComponents
from atelier_engines.local.errors import first_line
from atelier_engines.local.model_cache import Lease
from atelier_engines.local.torch_module import TorchModule

_FIELDS = ("negative_prompt", "prompt")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedTexts:
    """The hidden states of texts."""

    states: torch.Tensor
    """(texts, tokens, width), in the encoder's type."""
    mask: torch.Tensor
    """(texts, tokens): True for a token, False for padding."""


class T5TextEncoder:
    """A T5, or a T5Gemma, and its tokenizer. For one thread at a time."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        lease: Lease[TorchModule[T5EncoderModel]] | Lease[TorchModule[T5GemmaEncoderModel]],
        components: EngineComponents,
        *,
        max_tokens: int,
    ) -> None:
        """Encode with the leased encoder; texts of more than `max_tokens` tokens are refused."""
        self._tokenizer = tokenizer
        self._lease = lease
        self._device = components.device
        self._max_tokens = max_tokens

    def encode(self, prompt: str, negative: str | None, *, pad_to_max: bool) -> EncodedTexts:
        """The states of the negative prompt, if there is one, and of the prompt, in this order.

        Both are padded to the longer of the two, or with `pad_to_max` to the most tokens that are read.

        Raises:
            InvalidTaskError: one has too many tokens.
        """
        texts = [prompt] if negative is None else [negative, prompt]
        self._require_readable(texts)
        batch = self._tokenizer(
            texts,
            padding="max_length" if pad_to_max else True,
            max_length=self._max_tokens,
            truncation=True,
            return_tensors="pt",
        )
        ids, mask = batch.input_ids.to(self._device), batch.attention_mask.to(self._device)
        states = self._lease.run(
            lambda: self._lease.resident.module(input_ids=ids, attention_mask=mask)[0]
        )
        return EncodedTexts(states=states, mask=mask.bool())

    def _require_readable(self, texts: Sequence[str]) -> None:
        for field, text in zip(_FIELDS[-len(texts) :], texts, strict=True):
            count = len(self._tokenizer(text).input_ids)
            if count > self._max_tokens:
                raise InvalidTaskError(
                    field,
                    f"{field} has {count} tokens, and the model reads at most {self._max_tokens}: shorten it",
                )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a directory.

    Raises:
        ModelMissingError: there is none.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True
        )
    except (OSError, ValueError, ImportError) as error:
        raise ModelMissingError(
            f"there is no tokenizer in {folder}: {first_line(error)}"
        ) from error
    return tokenizer
