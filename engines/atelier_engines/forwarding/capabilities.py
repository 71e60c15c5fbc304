"""Decodes the capabilities of another server's engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

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


def decode_capabilities(found: client.Capabilities, name: str, *, concurrency: int) -> Capabilities:
    """The capabilities of the engine `name` of that server; of any engine there when `name` is empty.

    Cancellation and reproducibility are the weakest of all engines that may do the work, the
    fallbacks included. Without a name no options are offered: they belong to one engine. At most
    `concurrency` tasks run at once.

    Raises:
        EngineUnavailableError: there is no such engine, or it is not ready to say what it can do.
    """
    chosen = _choose(found, name)
    workers = tuple(_with_fallbacks(found, chosen)) if name else found.engines
    image = next((engine.image for engine in chosen if engine.image is not None), None)
    audio = next((engine.audio for engine in chosen if engine.audio is not None), None)
    first = chosen[0]
    return Capabilities(
        description=first.description if name else "Any engine of another Atelier server",
        image=None if image is None else _decode_image(image),
        audio=None if audio is None else _decode_audio(audio),
        concurrency=min(concurrency, max(1, sum(engine.load.concurrency for engine in chosen))),
        cancel=_weakest_cancel(workers),
        resumable=True,
        reproducibility=_weakest_reproducibility(workers),
        price=None if first.price is None else _decode_price(first.price),
        billed=any(engine.cancel_support != enums.CancelSupport.STEP for engine in workers),
        options_schema=_decode_schema(first.options_schema) if name else _CLOSED,
        versions=_merge_versions(found.version, workers),
        placeholder=all(engine.placeholder for engine in chosen),
        runtimes=_merge({engine.name: engine.runtimes for engine in workers}),
        runtime_fallbacks=_merge({engine.name: engine.runtime_fallbacks for engine in workers}),
    )


def _choose(found: client.Capabilities, name: str) -> tuple[client.Engine, ...]:
    """The engines to describe, all of them ready; the limits of the first apply."""
    known = {engine.name: engine for engine in found.engines}
    if not name and found.routing is enums.RoutingPolicy.DEFAULT:
        name = found.default_engine
    if not name:
        ready = [one for one in found.engines if one.state is enums.EngineState.READY]
        if not ready:
            reasons = "; ".join(
                f"{one.name}: {one.state_message or one.state.value}" for one in found.engines
            )
            raise EngineUnavailableError(f"no engine of the other server is ready: {reasons}")
        return tuple(
            sorted(ready, key=lambda one: (_is_upscale_only(one), one.name != found.default_engine))
        )
    if name not in known:
        raise EngineUnavailableError(
            f"the other server has no engine {name!r}; it has {', '.join(known)}"
        )
    if known[name].state is not enums.EngineState.READY:
        reason = known[name].state_message or known[name].state.value
        raise EngineUnavailableError(f"engine {name!r} of the other server is not ready: {reason}")
    return (known[name],)


def _is_upscale_only(engine: client.Engine) -> bool:
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


def _weakest_cancel(engines: Sequence[client.Engine]) -> CancelSupport:
    """STEP or NONE if all engines agree; else REMOTE, which does not promise to stop within a step."""
    kinds = {engine.cancel_support for engine in engines}
    if kinds == {enums.CancelSupport.STEP}:
        return CancelSupport.STEP
    return CancelSupport.NONE if kinds == {enums.CancelSupport.NONE} else CancelSupport.REMOTE


def _weakest_reproducibility(engines: Sequence[client.Engine]) -> Reproducibility:
    kinds = {engine.reproducibility for engine in engines}
    for kind in (Reproducibility.BIT_EXACT, Reproducibility.SAME_ENGINE):
        if kinds == {enums.Reproducibility(kind.value)}:
            return kind
    return Reproducibility.BEST_EFFORT


def _merge_versions(server: str, engines: Sequence[client.Engine]) -> dict[str, str]:
    """Those of the engine that does the work, and of each server that forwards to it, the nearest last.

    Where several may do it, the versions of each stand under its name.
    """
    versions = _merge({engine.name: engine.versions for engine in engines})
    names = (f"atelier {hop}" if hop > 1 else "atelier" for hop in count(1))
    versions[next(name for name in names if name not in versions)] = server
    return versions


def _merge(by_engine: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The entries of one engine, or those of several, each under the name of its engine."""
    return {
        name if len(by_engine) == 1 else f"{engine}: {name}": text
        for engine, entries in by_engine.items()
        for name, text in entries.items()
    }


def _decode_image(capabilities: theirs.ImageCapabilities) -> ImageCapabilities:
    return ImageCapabilities(
        width=_decode_integers(capabilities.width),
        height=_decode_integers(capabilities.height),
        max_pixels=capabilities.max_pixels,
        features=frozenset(ImageFeature(one.value) for one in capabilities.features if one.number),
        steps=None if capabilities.steps is None else _decode_integers(capabilities.steps),
        guidance=None if capabilities.guidance is None else _decode_numbers(capabilities.guidance),
        clip_skip=None
        if capabilities.clip_skip is None
        else _decode_integers(capabilities.clip_skip),
        max_images=capabilities.max_images,
        max_prompt_length=capabilities.max_prompt_length,
        schedulers=capabilities.schedulers,
        control_types=tuple(
            ControlType(one.value) for one in capabilities.control_types if one.number
        ),
        max_controls=capabilities.max_controls,
        models=tuple(map(_decode_model, capabilities.models)),
        loras=capabilities.loras,
        max_loras=capabilities.max_loras,
        resource_profiles=tuple(
            ResourceProfile(one.value) for one in capabilities.resource_profiles if one.number
        ),
        safety_modes=tuple(
            SafetyMode(one.value) for one in capabilities.safety_modes if one.number
        ),
        upscalers=capabilities.upscalers,
        upscale_only=capabilities.upscale_only,
        keeps_init_size=capabilities.keeps_init_size,
        default_preview_interval=capabilities.default_preview_interval,
        min_seed=capabilities.min_seed,
        max_seed=capabilities.max_seed,
        ignores_strength=capabilities.ignores_strength,
        inpainting_ignores_strength=capabilities.inpainting_ignores_strength,
        inpainting_ignores_negative_prompt=capabilities.inpainting_ignores_negative_prompt,
        strength_skips_steps=capabilities.strength_skips_steps,
        embeddings=capabilities.embeddings,
        typed_names=capabilities.typed_names,
        vocabulary=capabilities.vocabulary,
        service_reads_embeddings=capabilities.service_reads_embeddings,
        lora_embeddings=capabilities.lora_embeddings,
        native_side=None
        if capabilities.native_side is None
        else _decode_integers(capabilities.native_side),
        lora_trigger_words=capabilities.lora_trigger_words,
    )


def _decode_audio(capabilities: theirs.AudioCapabilities) -> AudioCapabilities:
    return AudioCapabilities(
        duration_seconds=_decode_numbers(capabilities.duration_seconds),
        sample_rates=capabilities.sample_rates,
        channels=capabilities.channels,
        features=frozenset(AudioFeature(one.value) for one in capabilities.features if one.number),
        steps=None if capabilities.steps is None else _decode_integers(capabilities.steps),
        guidance=None if capabilities.guidance is None else _decode_numbers(capabilities.guidance),
        max_candidates=capabilities.max_candidates,
        max_prompt_length=capabilities.max_prompt_length,
        models=tuple(map(_decode_model, capabilities.models)),
        vocabulary=capabilities.vocabulary,
        prompt_decides_duration=capabilities.prompt_decides_duration,
        audible_seconds=capabilities.audible_seconds,
    )


def _decode_integers(found: theirs.IntegerRange | None) -> IntegerRange:
    if found is None:
        raise EngineUnavailableError("the other server gives no limits for the size of images")
    return IntegerRange(
        min=found.min,
        max=found.max,
        default=found.default,
        multiple_of=max(1, found.multiple_of),
        allowed_values=found.allowed_values,
    )


def _decode_numbers(found: theirs.NumberRange | None) -> NumberRange:
    if found is None:
        raise EngineUnavailableError("the other server gives no limits for the duration of audio")
    return NumberRange(min=found.min, max=found.max, default=found.default)


def _decode_model(found: theirs.Model) -> Model:
    return Model(
        name=found.name,
        family=found.family,
        digest=found.digest,
        fallback_for=found.fallback_for,
        fallback_reason=found.fallback_reason,
        license=found.license,
    )


def _decode_price(found: theirs.Price) -> Price | None:
    if not found.unit.number:
        return None
    return Price(
        amount=found.amount, unit=PriceUnit(found.unit.value), currency=found.currency or "USD"
    )


def _decode_schema(found: object) -> dict[str, JSON]:
    """The schema with its integers restored: on the wire every number is a double."""
    schema = _restore_integers(found)
    return dict(schema) if isinstance(schema, dict) else dict(_CLOSED)


def _restore_integers(value: object) -> JSON:
    match value:
        case dict():
            return {str(key): _restore_integers(item) for key, item in value.items()}
        case list():
            return [_restore_integers(item) for item in value]
        case float() if value.is_integer():
            return int(value)
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)
