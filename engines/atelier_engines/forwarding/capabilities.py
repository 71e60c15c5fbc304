"""What another server's engines can do, in the words of this package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import atelier_client as client
from atelier_client import engines as theirs
from atelier_client import enums
from atelier_engines.capabilities import (
    AudioCapabilities,
    AudioFeature,
    CancelSupport,
    Capabilities,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Model,
    NumberRange,
    Price,
    PriceUnit,
    Reproducibility,
)
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.task import JSON, ControlType, ResourceProfile, SafetyMode

_CLOSED: dict[str, JSON] = {"type": "object", "additionalProperties": False}


def abilities(found: client.Capabilities, name: str, *, concurrency: int) -> Capabilities:
    """What the engine `name` of that server can do; of any engine there when `name` is empty.

    How work is cancelled and repeated is the weakest of all the engines that may come to do it, its
    fallbacks among them. Without a name no options are offered: they belong to one engine. No more
    than `concurrency` tasks are worked on at once.

    Raises:
        EngineUnavailableError: there is no such engine, or it is not ready to say what it can do.
    """
    chosen = _chosen(found, name)
    doing = tuple(_with_fallbacks(found, chosen)) if name else found.engines
    image = next((engine.image for engine in chosen if engine.image is not None), None)
    audio = next((engine.audio for engine in chosen if engine.audio is not None), None)
    first = chosen[0]
    return Capabilities(
        description=first.description if name else "Whichever engine of another Atelier server",
        image=None if image is None else _image(image),
        audio=None if audio is None else _audio(audio),
        concurrency=min(concurrency, max(1, sum(engine.load.concurrency for engine in chosen))),
        cancel=_cancel(doing),
        reproducibility=_reproducibility(doing),
        price=None if first.price is None else _price(first.price),
        options_schema=_schema(first.options_schema) if name else _CLOSED,
        versions={"atelier": found.version},
    )


def _chosen(found: client.Capabilities, name: str) -> tuple[client.Engine, ...]:
    """The engines to describe, the one whose limits come first at the front; all of them ready."""
    known = {engine.name: engine for engine in found.engines}
    if not name:
        ready = [one for one in found.engines if one.state is enums.EngineState.READY]
        if not ready:
            raise EngineUnavailableError("no engine of the other server can work now")
        return tuple(
            sorted(ready, key=lambda one: (_only_upscales(one), one.name != found.default_engine))
        )
    if name not in known:
        raise EngineUnavailableError(
            f"the other server has no engine {name!r}; it has {', '.join(known)}"
        )
    if known[name].state is not enums.EngineState.READY:
        why = known[name].state_message or known[name].state.value
        raise EngineUnavailableError(f"engine {name!r} of the other server cannot work now: {why}")
    return (known[name],)


def _only_upscales(engine: client.Engine) -> bool:
    return engine.image is not None and engine.image.upscale_only


def _with_fallbacks(
    found: client.Capabilities, chosen: Sequence[client.Engine]
) -> Iterator[client.Engine]:
    known = {engine.name: engine for engine in found.engines}
    waiting, seen = list(chosen), {engine.name for engine in chosen}
    while waiting:
        engine = waiting.pop()
        yield engine
        for name in engine.fallbacks:
            if name in known and name not in seen:
                seen.add(name)
                waiting.append(known[name])


def _cancel(engines: Sequence[client.Engine]) -> CancelSupport:
    """Mixed company is told to stop, and nothing more is promised."""
    kinds = {engine.cancel_support for engine in engines}
    if kinds == {enums.CancelSupport.STEP}:
        return CancelSupport.STEP
    return CancelSupport.NONE if kinds == {enums.CancelSupport.NONE} else CancelSupport.REMOTE


def _reproducibility(engines: Sequence[client.Engine]) -> Reproducibility:
    kinds = {engine.reproducibility for engine in engines}
    for kind in (Reproducibility.BIT_EXACT, Reproducibility.SAME_ENGINE):
        if kinds == {enums.Reproducibility(kind.value)}:
            return kind
    return Reproducibility.BEST_EFFORT


def _image(can: theirs.ImageCapabilities) -> ImageCapabilities:
    return ImageCapabilities(
        width=_integers(can.width),
        height=_integers(can.height),
        max_pixels=can.max_pixels,
        features=frozenset(ImageFeature(one.value) for one in can.features if one.number),
        steps=None if can.steps is None else _integers(can.steps),
        guidance=None if can.guidance is None else _numbers(can.guidance),
        max_images=can.max_images,
        max_prompt_length=can.max_prompt_length,
        schedulers=can.schedulers,
        control_types=tuple(ControlType(one.value) for one in can.control_types if one.number),
        max_controls=can.max_controls,
        models=tuple(map(_model, can.models)),
        loras=can.loras,
        max_loras=can.max_loras,
        resource_profiles=tuple(
            ResourceProfile(one.value) for one in can.resource_profiles if one.number
        ),
        safety_modes=tuple(SafetyMode(one.value) for one in can.safety_modes if one.number),
        upscalers=can.upscalers,
        upscale_only=can.upscale_only,
    )


def _audio(can: theirs.AudioCapabilities) -> AudioCapabilities:
    return AudioCapabilities(
        duration_seconds=_numbers(can.duration_seconds),
        sample_rates=can.sample_rates,
        channels=can.channels,
        features=frozenset(AudioFeature(one.value) for one in can.features if one.number),
        steps=None if can.steps is None else _integers(can.steps),
        guidance=None if can.guidance is None else _numbers(can.guidance),
        max_candidates=can.max_candidates,
        max_prompt_length=can.max_prompt_length,
        models=tuple(map(_model, can.models)),
    )


def _integers(found: theirs.IntegerRange | None) -> IntegerRange:
    if found is None:
        raise EngineUnavailableError("the other server does not say how large its pictures may be")
    return IntegerRange(
        min=found.min, max=found.max, default=found.default, multiple_of=max(1, found.multiple_of)
    )


def _numbers(found: theirs.NumberRange | None) -> NumberRange:
    if found is None:
        raise EngineUnavailableError("the other server does not say how long its sounds may be")
    return NumberRange(min=found.min, max=found.max, default=found.default)


def _model(found: theirs.Model) -> Model:
    return Model(name=found.name, family=found.family, digest=found.digest)


def _price(found: theirs.Price) -> Price | None:
    if not found.unit.number:
        return None
    return Price(
        amount=found.amount, unit=PriceUnit(found.unit.value), currency=found.currency or "USD"
    )


def _schema(found: object) -> dict[str, JSON]:
    """The schema, whole numbers as such again: on the wire every number has a fraction."""
    schema = _whole(found)
    return dict(schema) if isinstance(schema, dict) else dict(_CLOSED)


def _whole(value: object) -> JSON:
    match value:
        case dict():
            return {str(key): _whole(item) for key, item in value.items()}
        case list():
            return [_whole(item) for item in value]
        case float() if value.is_integer():
            return int(value)
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)
