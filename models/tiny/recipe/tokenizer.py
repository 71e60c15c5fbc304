"""Learns the vocabulary and writes the two tokenizers in CLIP's file format: ``recipe.tokenizer``.

Both share one vocabulary, laid out as CLIP's: 256 bytes, 256 bytes that end a word, the merges,
start, end. They differ in the padding, as SDXL's do.
"""

import argparse
import json
import random
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from recipe import captions, concepts, networks
from recipe.colours import PALETTE
from recipe.data import BUILD, TrainingImage

START, END = "<|startoftext|>", "<|endoftext|>"
_MERGES = 2600
PADS = {"tokenizer": END, "tokenizer_2": "!"}
"""Folder to padding token: SDXL's."""
_SUFFIX = "</w>"
_WORDS = r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def corpus() -> list[str]:
    """Captions of every concept of every table, so that a later stage needs no new vocabulary."""
    rng = random.Random(7)
    lines = [*captions.FILLERS, *captions.ADJECTIVES, *PALETTE, "flat", "glossy", "noto", "violet"]
    for concept in concepts.load(*concepts.TABLES):
        lines += list(concept.names) * 4
        for colour in (None, *PALETTE):
            shown = TrainingImage(
                concept=concept.name, style="flat", colour=colour, placement=0, held=False
            )
            lines.append(captions.caption(shown, concept, rng))
    return lines


def learn() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary and the merges, in CLIP's order."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix=_SUFFIX))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern=Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=_MERGES + 512, min_frequency=1, end_of_word_suffix=_SUFFIX, show_progress=False
    )
    bpe.train_from_iterator(corpus(), trainer)
    merges = [(left, right) for left, right in json.loads(bpe.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(letter + _SUFFIX for letter in letters), *map("".join, merges)]
    unique = list(dict.fromkeys([*words, START, END]))
    return {word: index for index, word in enumerate(unique)}, merges


def write(folder: Path, *, pad: str) -> CLIPTokenizer:
    """Learn, write one tokenizer to ``folder`` and load it again; ``pad`` is its padding token."""
    vocabulary, merges = learn()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": networks.TOKENS,
        "do_lower_case": True,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": pad,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), "utf-8")
    return load(folder)


def write_both(build: Path) -> None:
    """Both tokenizers, in the folders ``tokenizer`` and ``tokenizer_2``."""
    for name, pad in PADS.items():
        write(build / name, pad=pad)


def load(folder: Path) -> CLIPTokenizer:
    """A tokenizer that was written here."""
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer


def main() -> None:
    """Learn and write both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    write_both(parser.parse_args().build)


class Pair:
    """Both tokenizers of a folder that ``write_both`` or an export wrote."""

    def __init__(self, folder: Path) -> None:
        self._tokenizers = [load(folder / name) for name in PADS]
        self.vocabulary = len(self._tokenizers[0])

    def ids(self, said: list[str]) -> list[torch.Tensor]:
        """The captions' ids for each encoder, [count, 77]."""
        return [
            words(said, padding="max_length", truncation=True, return_tensors="pt").input_ids
            for words in self._tokenizers
        ]


if __name__ == "__main__":
    main()
