"""The voice that comes with the package hibari-tts: from words to samples, sentence by sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hibari
import numpy as np
from hibari.g2p import G2P
from hibari.g2p.oov import OOV
from numpy.typing import NDArray

from atelier_engines.speech.capabilities import SAMPLE_RATE
from atelier_engines.speech.text import break_long_words, has_words, split_phonemes

_UNKNOWN_WORDS = "oov.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadText:
    """A text as the model reads it."""

    sentences: tuple[str, ...]
    """The phonemes of each; empty if there is no word to say."""
    unsaid: tuple[str, ...]
    """What the text has in letters that the voice does not know, as it is written there."""


class Voice:
    """A loaded voice. For one thread at a time."""

    def __init__(self) -> None:
        """Load the voice that is in the package; nothing is downloaded. Takes less than a second.

        Raises:
            OSError: the package is incomplete.
        """
        self._unknown = _UnknownWords()
        self._model = hibari.Hibari(threads=1, g2p=G2P(oov=self._unknown))
        if self._model.sample_rate != SAMPLE_RATE:
            raise ValueError(f"the voice has {self._model.sample_rate} Hz, not {SAMPLE_RATE}")
        for _ in self.say(self.read("Ready.").sentences, speed=1.0, seed=0):
            pass

    def read(self, text: str) -> ReadText:
        """The sentences of a text, each of bounded length; those without a word are left out."""
        self._unknown.unsaid.clear()
        phonemes = self._model.phonemize(break_long_words(text))
        sentences = [part for one in phonemes for part in split_phonemes(one) if has_words(part)]
        return ReadText(
            sentences=tuple(sentences), unsaid=tuple(sorted(self._unknown.unsaid, key=text.find))
        )

    def say(
        self, sentences: tuple[str, ...], *, speed: float, seed: int
    ) -> Iterator[NDArray[np.float32]]:
        """The samples of each sentence; equal seeds give equal samples."""
        random = np.random.default_rng(seed)
        for sentence in sentences:
            yield self._model.from_ids(self._model.ids(sentence), speed, random)


class _UnknownWords:
    """Reads words that are in no dictionary, all of each: the package's own reader stops after 24 letters."""

    def __init__(self) -> None:
        self._read = OOV(str(Path(hibari.__file__).parent / "assets" / _UNKNOWN_WORDS))
        self.unsaid: set[str] = set()
        """Words with letters that the voice does not know."""

    def __call__(self, word: str) -> str:
        """The phonemes of a word; empty if none of its letters is known."""
        known = [letter for letter in word if letter in self._read.cin]
        if any(letter.isalpha() and letter not in self._read.cin for letter in word):
            self.unsaid.add(word)
        length = self._read.maxlen
        pieces = ("".join(known[at : at + length]) for at in range(0, len(known), length))
        return "".join(self._read(piece) for piece in pieces)
