"""A small T5 with random weights and a tokenizer of a few words."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

WIDTH = 32
_WORDS = ("rain", "on", "a", "roof", "dog", "barks", "wind", "far", "away", "noise", "low")


def tokenizer(max_tokens: int) -> PreTrainedTokenizerFast:
    """Knows a few words; everything else is unknown letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -1.0) for word in _WORDS]
    made = Tokenizer(models.Unigram(pieces, unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers'
        tokenizer_object=made, model_max_length=max_tokens, **special
    )


def config() -> T5Config:
    """Two layers."""
    return T5Config(
        vocab_size=64,
        d_model=WIDTH,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )


def encoder(seed: int) -> T5EncoderModel:
    """With random weights."""
    torch.manual_seed(seed)
    made = T5EncoderModel(config())
    made.train(mode=False)
    return made
