"""Plants a canary in every setting that holds a secret, an address that may have a password, or a path.

Which settings these are is read from the models of the configuration, so that none can be forgotten.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, SecretStr

from atelier_engines import registry
from atelier_engines.addresses import validate_url
from atelier_server.config.engine_settings import EngineSettings
from atelier_server.config.settings import Settings

_NAME = "planted"  # of an entry that the caller may name


@dataclass(slots=True)
class Garden:
    """The canaries in a configuration, by the settings that have them, such as tls.key or engines.bfl.api_key."""

    folder: Path
    """Where files lie."""
    host: str
    """HOST:PORT of every address."""
    scheme: str = "http"
    without: Sequence[str] = ()
    """Settings and sections that are left out."""
    forms: Mapping[str, str] = field(default_factory=dict)
    """What a secret is a part of, with {} in its place, such as an address of a database."""
    secrets: dict[str, str] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)

    @property
    def settings(self) -> set[str]:
        """The settings that have a canary."""
        return {*self.secrets, *self.paths}

    def plant_all(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A whole configuration: one engine of each installed type, and what is given, which is left as it is."""
        engines = given.get("engines", {})
        return {
            **self.plant(Settings, {name: given[name] for name in given if name != "engines"}),
            "engines": {
                name: self.plant_engine(name, engines.get(name, {}))
                for name in registry.engine_types()
                if f"engines.{name}" not in self.without
            },
        }

    def plant_engine(self, kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The section of an engine of that type."""
        place = f"engines.{kind}"
        section = self.plant(EngineSettings, {"type": kind, **given}, place)
        return self.plant(registry.load(kind).config, section, place)

    def plant(
        self, model: type[BaseModel], given: Mapping[str, Any], where: str = ""
    ) -> dict[str, Any]:
        """The given settings of a section, and canaries in the others."""
        made = dict(given)
        for name, one in model.model_fields.items():
            place = f"{where}.{name}".lstrip(".")
            if place not in self.without:
                value = self._make(one.annotation, one.metadata, given.get(name), place)
                if value is not None:
                    made[name] = value
        return made

    def _make(self, annotation: Any, metadata: Sequence[Any], given: Any, place: str) -> Any:  # noqa: ANN401 (annotations and settings of any type)
        """A value with a canary for a setting of that type; None where its type needs none."""
        origin, arguments = get_origin(annotation), get_args(annotation)
        made = None
        if origin is None:
            made = self._make_one(annotation, metadata, given, place)
        elif origin is Annotated:
            made = self._make(arguments[0], arguments[1:], given, place)
        elif origin in {Union, types.UnionType}:
            choices = (self._make(one, metadata, given, place) for one in arguments)
            made = next((one for one in choices if one is not None), None)
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            name, old = next(iter(given.items())) if given else (_NAME, None)
            value = self._make(arguments[1], (), old, place)
            made = None if value is None else {name: value}
        elif isinstance(origin, type) and issubclass(origin, Sequence):
            value = self._make(arguments[0], (), given[0] if given else None, place)
            made = None if value is None else [value]
        return made

    def _make_one(self, kind: Any, metadata: Sequence[Any], given: Any, place: str) -> Any:  # noqa: ANN401 (as above)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            before = len(self.settings)
            section = self.plant(kind, given or {}, place)
            return section if len(self.settings) > before else None
        if not isinstance(kind, type) or given is not None:
            return None
        canary = f"canary-{place.replace('.', '-').replace('_', '-')}-7"
        made = None
        if issubclass(kind, SecretStr):
            self.secrets[place] = canary
            made = self.forms.get(place, "{}").format(canary)
        elif issubclass(kind, Path):
            self.paths[place] = self.folder / canary
            made = str(self.paths[place])
        elif any(isinstance(one, AfterValidator) and one.func is validate_url for one in metadata):
            self.secrets[place] = canary
            made = f"{self.scheme}://me:{canary}@{self.host}"
        return made


def list_settings() -> set[str]:
    """Every setting, of the server and of the installed types of engines, that can have a canary."""
    everything = Garden(folder=Path("/"), host="127.0.0.1:1")
    everything.plant_all({})
    return everything.settings
