"""Decides the model of a task."""

from __future__ import annotations

from collections.abc import Sequence

from atelier_engines.capabilities import Model
from atelier_server.admission.parameters import ParameterRecorder

_MAX_REASON_LENGTH = 200


def choose_model(requested: str, models: Sequence[Model], recorder: ParameterRecorder) -> str:
    """The requested model, else the engine's default; or the one that stands in for it, as the recorder notes."""
    names = [model.name for model in models]
    for model in models[:1]:
        if model.fallback_for and requested in {"", model.fallback_for}:
            reason = model.fallback_reason[:_MAX_REASON_LENGTH]
            explanation = f"{model.fallback_for} could not be loaded: {reason}"
            if requested:
                return recorder.replace_name("model", requested, model.name, explanation)
            return recorder.choose("model", "", names, explanation)
    return recorder.choose("model", requested, names)
