"""A small CLAP with random weights, in the layout of transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    PreTrainedTokenizerFast,
)

MAX_TOKENS = 8
_WORDS = "<s> <pad> </s> <unk> rain on a the roof dog barks wind"
_TEXT = {
    "vocab_size": len(_WORDS.split()),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": MAX_TOKENS + 2,
    "projection_dim": 16,
}
_AUDIO = {
    "patch_embeds_hidden_size": 8,
    "hidden_size": 64,
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 1, 1, 1],
    "projection_dim": 16,
}


def write(folder: Path) -> Path:
    """Write one to the directory, which may not exist; returns it."""
    torch.manual_seed(3)
    config = ClapConfig(text_config=_TEXT, audio_config=_AUDIO, projection_dim=16)
    ClapModel(config).save_pretrained(folder)
    vocabulary = {word: index for index, word in enumerate(_WORDS.split())}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 (no secret)
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, **special)  # type: ignore[no-untyped-call]  # transformers'
    extractor = ClapFeatureExtractor(truncation="rand_trunc")
    processor = ClapProcessor(extractor, tokenizer)  # type: ignore[no-untyped-call]  # as above
    processor.save_pretrained(folder)
    return folder
