"""Scores how well audio matches its prompt, by CLAP: the cosine similarity of the embeddings of both."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from transformers import (
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    PreTrainedTokenizerBase,
)

from atelier_engines.audio_diffusion.prompt_match_files import find_folder
from atelier_engines.errors import EngineFailedError, ModelMissingError
from atelier_engines.local.errors import first_line
from atelier_engines.media import Samples

_SPECIAL_POSITIONS = 2
"""Positions that RoBERTa leaves out: it counts them from the padding token's number on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMatch:
    """The model, on the CPU in float32. For one thread at a time."""

    model: ClapModel
    """Embeds texts and audio."""
    extractor: ClapFeatureExtractor
    """Makes spectrograms of audio."""
    tokenizer: PreTrainedTokenizerBase
    """Splits texts."""

    def score(self, audio: Samples, prompt: str) -> Generator[None, object, float]:
        """The similarity of audio and prompt, -1 to 1; yields before each window of the audio.

        A prompt that is longer than the model reads is cut.

        Raises:
            EngineFailedError: the model gives NaN or infinity.
        """
        total = torch.zeros(())
        for window in split_windows(self._resample(audio), self.extractor.nb_max_samples):
            yield
            total = total + self._embed_audio(window)
        similarity = float(torch.nn.functional.normalize(total, dim=-1) @ self._embed_text(prompt))
        if not math.isfinite(similarity):
            raise EngineFailedError("the model of prompt_match gives NaN or infinity")
        return similarity

    def _resample(self, audio: Samples) -> NDArray[np.float32]:
        """All channels as one, at the model's sample rate."""
        mono, target = audio.array.mean(axis=1), self.extractor.sampling_rate
        shared = math.gcd(target, audio.sample_rate)
        made = resample_poly(mono, target // shared, audio.sample_rate // shared)
        return np.asarray(made, np.float32)

    def _embed_audio(self, window: NDArray[np.float32]) -> torch.Tensor:
        features = self.extractor(
            window, sampling_rate=self.extractor.sampling_rate, return_tensors="pt"
        )
        embedding: torch.Tensor = self.model.get_audio_features(**features).pooler_output[0]
        return embedding

    def _embed_text(self, prompt: str) -> torch.Tensor:
        embeddings = self.model.text_model.embeddings.position_embeddings
        positions = embeddings.num_embeddings - _SPECIAL_POSITIONS
        limit = min(self.tokenizer.model_max_length, positions)
        batch = self.tokenizer(prompt, truncation=True, max_length=limit, return_tensors="pt")
        embedding: torch.Tensor = self.model.get_text_features(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask
        ).pooler_output[0]
        return embedding


def split_windows(wave: NDArray[np.float32], length: int) -> Iterator[NDArray[np.float32]]:
    """The wave if it is not longer, else windows of that length which cover it; the last one ends with it.

    Of what is longer than its window, the feature extractor would take a part at random.
    """
    last = max(0, len(wave) - length)
    for start in [*range(0, last, length), last]:
        yield wave[start : start + length]


def load(source: str, *, download: bool) -> PromptMatch:
    """The CLAP model that a directory or a hub id names.

    Raises:
        ModelMissingError: it is absent, incomplete, broken, or of another kind.
    """
    folder = find_folder(source, download=download)
    kind: Any = ClapModel  # transformers does not say that it may return a report
    try:
        processor = ClapProcessor.from_pretrained(folder, local_files_only=True)
        model, report = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise ModelMissingError(
            f"the CLAP model in {folder}, which prompt_match.model names, cannot be loaded: {first_line(error)}"
        ) from error
    missing = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if missing:
        raise ModelMissingError(
            f"the CLAP model in {folder}, which prompt_match.model names, lacks {len(missing)} weights, "
            f"{missing[0]} first"
        )
    return PromptMatch(
        model=model.eval(), extractor=processor.feature_extractor, tokenizer=processor.tokenizer
    )
