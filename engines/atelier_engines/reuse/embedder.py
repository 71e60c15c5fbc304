"""Sentence embeddings by a BERT in the layout of sentence-transformers, such as BGE and MiniLM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from atelier_engines.errors import EngineFailedError, ModelMissingError
from atelier_engines.local.errors import first_line
from atelier_engines.reuse.embedder_files import find_folder
from atelier_engines.reuse.variants import Vector

_POOLING = Path("1_Pooling") / "config.json"
_MEAN, _FIRST = "pooling_mode_mean_tokens", "pooling_mode_cls_token"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceEmbedder:
    """The model, on the CPU in float32. For one thread at a time."""

    tokenizer: PreTrainedTokenizerBase
    """Splits texts."""
    model: PreTrainedModel
    """Gives each token a vector."""
    mean: bool
    """Whether a text's vector is the mean of its tokens' (MiniLM) or the first (BGE)."""
    max_tokens: int
    """Most tokens of a text."""

    def embed(self, text: str) -> Vector | None:
        """The vector of a text, of length 1; None if it has more tokens than the model reads.

        Raises:
            EngineFailedError: the model gives NaN or infinity.
        """
        batch = self.tokenizer(text, return_tensors="pt")
        if batch.input_ids.shape[1] > self.max_tokens:
            return None
        with torch.inference_mode():
            states = self.model(**batch).last_hidden_state[0]
        pooled = (states.mean(dim=0) if self.mean else states[0]).numpy().astype(np.float32)
        length = float(np.linalg.norm(pooled))
        if not np.isfinite(length) or not length:
            raise EngineFailedError("the sentence embedding gives NaN or infinity")
        return np.asarray(pooled / length, np.float32)


def load(source: str, *, download: bool) -> SentenceEmbedder:
    """The model that a directory or a hub id names.

    Raises:
        ModelMissingError: it is absent, broken, or of another kind.
    """
    folder = find_folder(source, download=download)
    pooling = _read_pooling(folder / _POOLING)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise ModelMissingError(
            f"the sentence embedding in {folder} cannot be loaded: {first_line(error)}"
        ) from error
    return SentenceEmbedder(
        tokenizer=tokenizer,
        model=model.eval(),
        mean=pooling.get(_MEAN, True),
        max_tokens=min(tokenizer.model_max_length, model.config.max_position_embeddings),
    )


def _read_pooling(path: Path) -> Mapping[str, bool]:
    """How the model pools; the mean where it does not say.

    Raises:
        ModelMissingError: the file is broken, or names another way than mean and first token.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
        ways = {str(name): value for name, value in found.items() if value is True}
    except (OSError, ValueError, AttributeError) as error:
        raise ModelMissingError(f"{path} cannot be read: {error}") from error
    ways = {name: value for name, value in ways.items() if name.startswith("pooling_mode_")}
    if set(ways) not in ({_MEAN}, {_FIRST}):
        raise ModelMissingError(
            f"{path} pools by {', '.join(sorted(ways)) or 'nothing'}; only the mean and the first token are known"
        )
    return {_MEAN: _MEAN in ways}
