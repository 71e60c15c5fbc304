"""Finds engine types among the installed packages, by name."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from atelier_engines.engine import EngineType
from atelier_engines.errors import EngineUnavailableError

GROUP = "atelier.engines"


class UnknownEngineTypeError(LookupError):
    """No installed package registers that type; the message names the installed ones."""


def engine_types() -> tuple[str, ...]:
    """The names of all installed engine types, sorted."""
    return tuple(sorted(point.name for point in entry_points(group=GROUP)))


def packages() -> tuple[str, ...]:
    """The top-level packages of all installed engine types, and this one, sorted."""
    found = {point.module.partition(".")[0] for point in entry_points(group=GROUP)}
    return tuple(sorted({__name__.partition(".")[0], *found}))


def load(name: str) -> EngineType[Any]:
    """Import the engine type of that name.

    Raises:
        UnknownEngineTypeError: no installed package registers it.
        EngineUnavailableError: a required package is missing; the message says which.
        TypeError: the entry point is not an EngineType.
    """
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
