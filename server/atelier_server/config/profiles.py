"""What the top of a configuration says about all engines at once: tests without models, and where models are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from atelier_server.config.engine_settings import EngineSettings
from atelier_server.config.settings import Settings
from atelier_server.config.variables import Substitution

_TRUE = frozenset({"true", "1", "yes", "on"})


def replace_engines_for_tests(
    raw: Mapping[str, object], default: Mapping[str, object], variables: Mapping[str, str]
) -> Mapping[str, object]:
    """The configuration, its engines replaced by sketches of their names if `testing` says so.

    Before variables are replaced: those of the engines' types may be unset. `default` are the engines without any.
    """
    testing = Substitution(variables, []).apply(raw.get("testing", False))
    engines = raw.get("engines", default)
    if str(testing).lower() not in _TRUE or not isinstance(engines, Mapping):
        return raw
    return {**raw, "engines": {name: _to_sketch(given) for name, given in engines.items()}}


def _to_sketch(given: object) -> object:
    """A section of type sketch with those keys that every engine has; sketch needs no replicas."""
    if not isinstance(given, Mapping):
        return given
    common = EngineSettings.model_fields.keys() - {"replicas"}
    kept = {key: given[key] for key in common & given.keys()}
    return {**kept, "type": "sketch"}


def find_models_dir(raw: Mapping[str, object], variables: Mapping[str, str]) -> str | None:
    """The directory of models for engines that name none: as configured, else that of the environment."""
    given = raw.get("models_dir") or variables.get("MODELS_DIR") or None
    return None if given is None else str(given)


def find_shared_places(
    raw: Mapping[str, object], engine: str, variables: Mapping[str, str]
) -> Mapping[str, str]:
    """Directories for the keys of that name in the engine's section, where it has such keys and does not set them."""
    data_dir = raw.get("data_dir") or Settings.model_fields["data_dir"].default
    places = {"state_dir": str(Path(str(data_dir)) / "engines" / engine)}
    models_dir = find_models_dir(raw, variables)
    return places if models_dir is None else {**places, "models_dir": models_dir}


def keep_downloads(settings: Settings) -> None:
    """Let what is downloaded be kept below `models_dir`, unless the environment says another place.

    To be called before anything imports `huggingface_hub`, which reads the variable then.
    """
    if settings.models_dir is not None:
        hub = Path(settings.models_dir).absolute() / "hub"
        os.environ.setdefault("HF_HUB_CACHE", str(hub))
