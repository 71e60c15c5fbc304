"""Notes the words of a prompt that a model with a small vocabulary does not follow."""

from __future__ import annotations

import re
from collections.abc import Collection

from atelier_engines.capabilities import ImageCapabilities
from atelier_engines.prompt_names import find_names
from atelier_engines.suggestions import find_similar
from atelier_server.admission.parameters import ParameterRecorder

_TAG = re.compile(r"<[^>]*>")
"""What is typed as the name of a LoRA or of an embedding, but is none."""
_MAX_SUGGESTIONS = 8
"""Unknown words that the nearest one is looked up for, which takes milliseconds each."""
_SECTION = re.compile(r"\bBREAK\b")
"""Begins a new chunk where brackets are read as weights."""
_WORD = re.compile(r"[^\W\d_]+")


def note_unknown_words(
    prompt: str,
    names: Collection[str],
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
) -> None:
    """Record the words that the model does not know as ignored, each with the most similar one that it knows.

    `names` in the prompt stand for embeddings. Nothing is recorded where the vocabulary is empty: it is not known.
    """
    vocabulary = capabilities.vocabulary
    if not vocabulary:
        return
    if capabilities.typed_names:
        prompt = _SECTION.sub(" ", prompt)
    unknown = [word for word in _list_words(prompt, names) if word not in vocabulary]
    if unknown:
        named = unknown[:_MAX_SUGGESTIONS]
        nearest = {word: find_similar(word, sorted(vocabulary)) or "none" for word in named}
        told = ", ".join(f"{word} (nearest: {similar})" for word, similar in nearest.items())
        told += f" and {len(unknown) - len(named)} more" if len(unknown) > len(named) else ""
        recorder.ignore("prompt", " ".join(unknown), f"the model was not trained with {told}")


def _list_words(text: str, names: Collection[str]) -> list[str]:
    """Every word of the prompt once, in lower case, without names of LoRAs and embeddings."""
    for place in reversed(find_names(text, names)):
        text = f"{text[: place.start]} {text[place.end :]}"
    text = _TAG.sub(" ", text)
    return list(dict.fromkeys(_WORD.findall(text.casefold())))
