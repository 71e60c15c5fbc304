"""Reads the configuration file and the environment into Settings. Nothing else reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from atelier_engines import registry
from atelier_engines.errors import EngineError
from atelier_engines.suggestions import suggest
from atelier_server.config.configuration_files import ConfigurationError, read_file
from atelier_server.config.engine_settings import EngineSettings
from atelier_server.config.error_messages import describe_errors
from atelier_server.config.issued_credentials import use_issued_credentials
from atelier_server.config.profiles import (
    find_models_dir,
    find_shared_places,
    replace_engines_for_tests,
)
from atelier_server.config.replica_addresses import expand_replicas
from atelier_server.config.settings import Settings
from atelier_server.config.variables import Substitution, read_variables

_LOCAL_PACKAGES = ("atelier_tiny", "diffusers", "torch")
"""What the engine `tiny` needs, of the extra `local`."""
_SPEECH_PACKAGE = "hibari"
"""What the engine `voice` needs, of the extra `speech`."""
DEFAULT_STYLES: Mapping[str, Mapping[str, str]] = {
    "noto": {"title": "Noto", "prompt_suffix": ", noto style"},
}
"""Styles of a server whose configuration has neither `engines` nor `styles`: the other style of tiny."""

_COMMON_KEYS = (frozenset(EngineSettings.model_fields) - {"config"}) | frozenset(
    EngineSettings.renamed_keys
)
"""Keys of an engine's section that do not belong to its type, unless its type has one of that name itself."""


class _InvalidConfig(BaseModel):
    """Placeholder for an engine's invalid settings, so that the rest can be validated."""


def default_engines() -> Mapping[str, Mapping[str, object]]:
    """Engines of a server whose configuration has no `engines`: models only where their packages are installed."""
    engines: dict[str, Mapping[str, object]] = {}
    if all(find_spec(package) for package in _LOCAL_PACKAGES):
        engines["tiny"] = {"type": "diffusion"}
    engines["sketch"] = {"type": "sketch"}
    if find_spec(_SPEECH_PACKAGE):
        engines["voice"] = {"type": "speech", "load_on_demand": True}
    return engines


def load(path: Path | None, *, only_engines: Sequence[str] = (), **overrides: object) -> Settings:
    """Read the file (None: all defaults), and replace values by those overrides that are not None.

    `${NAME}` and `${NAME:-default}` in any string are replaced from the environment and from `.env` beside the file;
    `$$` is a dollar, and any other `${` is an error. With `only_engines`, the others are left out.

    Raises:
        ConfigurationError: the file is missing or neither YAML nor TOML, a variable is not set, a key is unknown, a
            value is invalid, there is no such engine.
    """
    problems: list[str] = []
    variables = read_variables(path)
    raw = dict({} if path is None else read_file(path))
    _override(raw, overrides)
    role = Substitution(variables, []).apply(raw.get("role", "all"))
    has_default_styles = not raw.keys() & {"engines", "styles"}
    if role == "gateway":
        raw["engines"] = {}
        problems += ["--engine: a gateway runs no engine; leave it out"] if only_engines else []
        only_engines = ()
    raw = dict(replace_engines_for_tests(raw, default_engines(), variables))
    substitution = Substitution(variables, problems)
    raw = substitution.apply(raw)
    if (models_dir := find_models_dir(raw, variables)) is not None:
        raw["models_dir"] = models_dir
    data_dir = raw.get("data_dir", Settings.model_fields["data_dir"].default)
    raw = dict(use_issued_credentials(raw, variables, Path(str(data_dir))))
    if has_default_styles and (role == "gateway" or "tiny" in default_engines()):
        raw["styles"] = DEFAULT_STYLES
    engines = raw.get("engines", default_engines())
    if isinstance(engines, Mapping):
        raw["engines"] = {
            name: _validate_engine(
                str(name), given, problems, find_shared_places(raw, str(name), variables)
            )
            for name, given in _select_engines(
                engines, only_engines, problems, keeps_references=role != "all"
            ).items()
        }
    if only_engines and role == "all" and isinstance(raw.get("routing_rules"), list):
        raw["routing_rules"] = _limit_rules(raw["routing_rules"], only_engines)
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        problems += describe_errors(error, Settings)
        settings = None
    if settings is not None:
        problems += _unknown_references(settings)
    if settings is None or problems:
        source = f"{path}: " if path else ""
        raise ConfigurationError(
            "\n".join(
                f"{source}{substitution.hide(problem)}" for problem in dict.fromkeys(problems)
            )
        )
    return settings


def _override(raw: dict[str, Any], overrides: Mapping[str, object]) -> None:
    """Replace values by those overrides that are not None; a mapping replaces values of its section."""
    for key, value in overrides.items():
        if isinstance(value, Mapping):
            section = raw.get(key)
            given = {name: item for name, item in value.items() if item is not None}
            if given and (section is None or isinstance(section, dict)):
                raw[key] = {**(section or {}), **given}
        elif value is not None:
            raw[key] = value


def _select_engines(
    engines: Mapping[str, object],
    only: Sequence[str],
    problems: list[str],
    *,
    keeps_references: bool,
) -> Mapping[str, object]:
    """The named engines, or all; fallbacks to others are left out unless other servers may run them."""
    for name in only:
        if name not in engines:
            known = ", ".join(map(str, engines))
            problems.append(
                f"no engine {name!r}; there are {known}{suggest(name, map(str, engines))}"
            )
    if not only or problems:
        return engines
    if keeps_references:
        return {name: engines[name] for name in only}
    return {name: _limit_fallbacks(engines[name], only) for name in only}


def _limit_fallbacks(engine: object, only: Sequence[str]) -> object:
    fallbacks = engine.get("fallbacks") if isinstance(engine, Mapping) else None
    if not isinstance(engine, Mapping) or not isinstance(fallbacks, list):
        return engine
    return {**engine, "fallbacks": [name for name in fallbacks if name in only]}


def _limit_rules(rules: Sequence[object], only: Sequence[str]) -> list[object]:
    """The rules without those for other engines."""
    return [
        rule
        for rule in rules
        if not isinstance(rule, Mapping) or rule.get("engine") in {None, *only}
    ]


def _validate_engine(
    name: str, given: object, problems: list[str], places: Mapping[str, str]
) -> object:
    """The engine's section, with the keys of its type validated and put under `config`."""
    if not isinstance(given, Mapping) or "type" not in given:
        return given  # refused by pydantic
    path = f"engines.{name}"
    try:
        kind = registry.load(_require_text(given["type"]))
    except (registry.UnknownEngineTypeError, EngineError, TypeError) as error:
        problems.append(f"{path}.type: {error}")
        return {
            **{key: given[key] for key in _COMMON_KEYS & given.keys()},
            "config": _InvalidConfig(),
        }
    common = _COMMON_KEYS - kind.config.model_fields.keys()
    own = {key: value for key, value in given.items() if key not in common}
    own = {key: places[key] for key in places.keys() & kind.config.model_fields.keys()} | own
    shared = {key: given[key] for key in common & given.keys()}
    if "replicas" in shared:
        own, shared["replicas"], problem = expand_replicas(
            kind, str(given["type"]), own, shared["replicas"]
        )
        problems += [f"{path}.replicas: {problem}"] if problem else []
    try:
        config = kind.config.model_validate(own)
    except ValidationError as error:
        problems += describe_errors(error, kind.config, path)
        config = _InvalidConfig()
    return {**shared, "config": config}


def _require_text(value: object) -> str:
    if not isinstance(value, str):
        msg = "must be text"
        raise TypeError(msg)
    return value


def _unknown_references(settings: Settings) -> list[str]:
    """What the settings name that they do not have; engines may be those of other servers unless this one does all."""
    problems = [
        f"engines.{name}.fallbacks: must name other engines, not {name!r} itself"
        for name, engine in settings.engines.items()
        if name in engine.fallbacks
    ]
    for number, rule in enumerate(settings.routing_rules):
        if rule.style is not None and rule.style not in settings.styles:
            styles = ", ".join(settings.styles) or "none"
            problems.append(
                f"routing_rules.{number}.style: no style {rule.style!r}; there are {styles}"
            )
    if not settings.engines and settings.role != "gateway":
        problems.append("engines: must name at least one engine")
    return [*(_unknown_engines(settings) if settings.role == "all" else ()), *problems]


def _unknown_engines(settings: Settings) -> list[str]:
    known = ", ".join(settings.engines)
    named = [
        *(
            (f"engines.{name}.fallbacks", fallback)
            for name, engine in settings.engines.items()
            for fallback in engine.fallbacks
        ),
        ("default_engine", settings.default_engine),
        *(
            (f"routing_rules.{number}.engine", rule.engine)
            for number, rule in enumerate(settings.routing_rules)
        ),
    ]
    return [
        f"{path}: no engine {name!r}; there are {known}"
        for path, name in named
        if name is not None and name not in settings.engines
    ]
