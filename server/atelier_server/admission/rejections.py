"""The errors of tasks that an engine cannot do: which engines can, or what the one comes short of that nearly can."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from atelier_engines import validation
from atelier_engines.capabilities import AudioFeature, Capabilities
from atelier_engines.errors import InvalidTaskError, UnsupportedError
from atelier_engines.task import Task
from atelier_server.admission.options import find_option_violations
from atelier_server.engines.status import EngineStatus
from atelier_server.errors import InvalidRequestError, ServiceError, UnsupportedTaskError

ResolveTask = Callable[[Capabilities], Task]
"""Decides a request for an engine of these capabilities; raises UnsupportedError or InvalidRequestError."""
_WRONG_KIND = 1000  # more features than a task can need


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shortfall:
    """What keeps an engine from a task."""

    engine: str
    features: int
    """How many features it lacks."""
    problems: Sequence[str]
    """All that is in the way; empty if it can do the task."""

    @property
    def rank(self) -> tuple[int, int]:
        """Less for an engine that is nearer to the task."""
        return self.features, len(self.problems)


def refuse(
    engine: EngineStatus,
    error: UnsupportedError | InvalidRequestError,
    engines: Iterable[EngineStatus],
    resolve: ResolveTask,
) -> ServiceError:
    """The error for the caller: the engine's own, with the engines that can do the task.

    If there is none, with what keeps the nearest one from it, unless that is this engine itself.
    """
    own = _find_shortfall(engine, resolve)
    fit = _list_fit(engine, error, engines)
    shortfalls = {each.name: _find_shortfall(each, resolve) for each in fit}
    able = _prefer_real(each for each in fit if not shortfalls[each.name].problems)
    others = [shortfalls[name] for name in _prefer_real(fit)]
    nearest = min([own, *others], key=lambda found: found.rank)
    hint = "" if able or nearest is own else _describe(nearest)
    if isinstance(error, InvalidRequestError):
        return InvalidRequestError(error.violations, engine.name, able, hint)
    ending = hint or "no engine of this server supports all of this task"
    if able:
        ending = f"engines that support it: {', '.join(able)}"
    unsupported = UnsupportedTaskError(f"engine {engine.name!r}: {error}; {ending}")
    unsupported.metadata = {
        "engine": engine.name,
        "feature": error.feature,
        "engines": ",".join(able),
    }
    return unsupported


def _list_fit(
    engine: EngineStatus,
    error: UnsupportedError | InvalidRequestError,
    engines: Iterable[EngineStatus],
) -> list[EngineStatus]:
    """The other engines that would make what was meant: a voice says a description, and others do not speak."""
    is_image = isinstance(error, UnsupportedError) and error.feature == "image"
    wants_speech = engine.capabilities.only_speaks and not is_image
    others = [each for each in engines if each.name != engine.name]
    if wants_speech:
        return [each for each in others if _speaks(each)]
    return [each for each in others if not each.capabilities.only_speaks]


def _speaks(engine: EngineStatus) -> bool:
    audio = engine.capabilities.audio
    return audio is not None and AudioFeature.SPEECH in audio.features


def _prefer_real(engines: Iterable[EngineStatus]) -> list[str]:
    """The names of the engines, without placeholders unless there is nothing else."""
    found = list(engines)
    real = [each.name for each in found if not each.capabilities.placeholder]
    return real or [each.name for each in found]


def explain_fallbacks(fallbacks: Iterable[EngineStatus], resolve: ResolveTask) -> str:
    """Why none of the fallbacks takes over: for each the first thing that is in the way."""
    return "; ".join(
        f"its fallback {fallback.name!r} cannot take over: {_find_reason(fallback, resolve)}"
        for fallback in fallbacks
    )


def _find_reason(engine: EngineStatus, resolve: ResolveTask) -> str:
    rejection = engine.find_rejection()
    if rejection is not None:
        return str(rejection)
    problems = _find_shortfall(engine, resolve).problems
    return problems[0] if problems else "it was tried before"


def _describe(nearest: _Shortfall) -> str:
    return (
        "no engine of this server supports all of this task; the nearest is "
        f"{nearest.engine!r}, where {' and '.join(nearest.problems)}"
    )


def _find_shortfall(engine: EngineStatus, resolve: ResolveTask) -> _Shortfall:
    capabilities = engine.capabilities
    try:
        task = resolve(capabilities)
    except UnsupportedError as error:
        return _Shortfall(engine=engine.name, features=_WRONG_KIND, problems=[str(error)])
    except InvalidRequestError as error:
        texts = [f"{wrong.field}: {wrong.message}" for wrong in error.violations]
        return _Shortfall(engine=engine.name, features=0, problems=texts)
    found = list(validation.violations(capabilities, task))
    wrong_options = find_option_violations(capabilities.options_schema, task.options)
    known = {problem.field for problem in found if isinstance(problem, InvalidTaskError)}
    return _Shortfall(
        engine=engine.name,
        features=sum(isinstance(problem, UnsupportedError) for problem in found),
        problems=[
            *map(str, found),
            *(f"{wrong.field}: {wrong.message}" for wrong in wrong_options if not known),
        ],
    )
