"""A small BERT with random weights in the layout of sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

MAX_TOKENS = 12
_WORDS = "[PAD] [UNK] [CLS] [SEP] rain on a the roof dog barks wind far away no two three"


def write(folder: Path, *, pooling: str | None = "pooling_mode_mean_tokens") -> Path:
    """Write one to the directory, which may not exist; returns it."""
    torch.manual_seed(5)
    vocabulary = {word: index for index, word in enumerate(_WORDS.split())}
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=MAX_TOKENS,
    )
    BertModel(config).save_pretrained(folder)
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 (no secret)
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
    }
    PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder)  # type: ignore[no-untyped-call]  # transformers'
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        ways = {"word_embedding_dimension": 16, "pooling_mode_max_tokens": False, pooling: True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(ways))
    return folder
