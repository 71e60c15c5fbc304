"""Finds engine types among the installed packages, by name."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from atelier_engines.engine import EngineType
from atelier_engines.errors import EngineUnavailableError

GROUP = "atelier.engines"


class UnknownEngineTypeError(LookupError):
    """No installed package registers that type; the message names the installed ones."""


_registered: dict[str, EngineType[Any]] = {}
"""Types that the program itself has registered, by name."""


def register(name: str, engine_type: EngineType[Any]) -> None:
    """Make an engine type known in this process, for programs that embed the server; packages use entry points.

    To be called before the configuration is loaded that names the type.

    Raises:
        ValueError: a type of that name is registered or installed already.
    """
    if name in engine_types():
        raise ValueError(f"there is an engine type {name!r} already; choose another name")
    _registered[name] = engine_type


def engine_types() -> tuple[str, ...]:
    """The names of all installed and registered engine types, sorted."""
    return tuple(sorted({*_registered, *(point.name for point in entry_points(group=GROUP))}))


def packages() -> tuple[str, ...]:
    """The top-level packages of all installed engine types, and this one, sorted."""
    found = {point.module.partition(".")[0] for point in entry_points(group=GROUP)}
    return tuple(sorted({__name__.partition(".")[0], *found}))


def load(name: str) -> EngineType[Any]:
    """The engine type of that name, imported if a package has it.

    Raises:
        UnknownEngineTypeError: no installed package registers it.
        EngineUnavailableError: a required package is missing; the message says which.
        TypeError: the entry point is not an EngineType.
    """
    if name in _registered:
        return _registered[name]
    points = entry_points(group=GROUP, name=name)
    if not points:
        known = ", ".join(engine_types()) or "none"
        raise UnknownEngineTypeError(f"no engine type {name!r}; installed are {known}")
    try:
        found = next(iter(points)).load()
    except ImportError as error:
        msg = f"engine type {name!r} needs a package that is not installed: {error}"
        raise EngineUnavailableError(msg) from error
    except AttributeError as error:
        msg = f"the entry point of engine type {name!r} does not exist: {error}"
        raise TypeError(msg) from error
    if not isinstance(found, EngineType):
        msg = f"the entry point of engine type {name!r} is {found!r}, not an EngineType"
        raise TypeError(msg)
    return found
