"""The voice that comes with the package hibari-tts: from words to samples, sentence by sentence."""

from __future__ import annotations

from collections.abc import Iterator

import hibari
import numpy as np
from numpy.typing import NDArray

from atelier_engines.speech.capabilities import SAMPLE_RATE


class Voice:
    """A loaded voice. For one thread at a time."""

    def __init__(self) -> None:
        """Load the voice that is in the package; nothing is downloaded. Takes less than a second.

        Raises:
            OSError: the package is incomplete.
        """
        self._model = hibari.Hibari(threads=1)
        if self._model.sample_rate != SAMPLE_RATE:
            raise ValueError(f"the voice has {self._model.sample_rate} Hz, not {SAMPLE_RATE}")
        for _ in self.say(self.read("Ready."), speed=1.0, seed=0):
            pass

    def read(self, text: str) -> list[str]:
        """The sentences of a text as the model reads them, in phonemes; empty if there is nothing to say."""
        sentences: list[str] = self._model.phonemize(text)
        return sentences

    def say(
        self, sentences: list[str], *, speed: float, seed: int
    ) -> Iterator[NDArray[np.float32]]:
        """The samples of each sentence; equal seeds give equal samples."""
        random = np.random.default_rng(seed)
        for sentence in sentences:
            yield self._model.from_ids(self._model.ids(sentence), speed, random)
