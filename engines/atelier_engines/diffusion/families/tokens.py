"""Texts as the token ids that CLIP's text encoders read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import CLIPTokenizer


def pieces(tokenizer: CLIPTokenizer, text: str) -> torch.Tensor:
    """(pieces, 77): the text in as many pieces as it takes, each with start, end and padding."""
    ids: torch.Tensor = tokenizer(
        [text],
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_overflowing_tokens=True,
        return_tensors="pt",
    ).input_ids
    return ids
