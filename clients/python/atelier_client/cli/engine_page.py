"""The page of one engine: what it can do, its limits, and the names that its tasks may use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from atelier_client.cli.option_schemas import describe_options
from atelier_client.engines import (
    AudioCapabilities,
    Capabilities,
    Engine,
    EnginePause,
    ImageCapabilities,
    IntegerRange,
    Model,
    NumberRange,
)
from atelier_client.enums import CancelSupport, Reproducibility

_Facts = Iterator[tuple[str, str]]
_CANCEL = {
    CancelSupport.UNSPECIFIED: "",
    CancelSupport.STEP: "stops within a step",
    CancelSupport.REMOTE: "asks the remote service, which may still bill",
    CancelSupport.NONE: "runs to its end; the result is dropped",
}
_REPRODUCIBILITY = {
    Reproducibility.UNSPECIFIED: "",
    Reproducibility.BIT_EXACT: "the same seed gives the same bytes",
    Reproducibility.SAME_ENGINE: "the same seed gives an image that looks the same",
    Reproducibility.BEST_EFFORT: "not guaranteed",
}


def build_engine_page(capabilities: Capabilities, engine: Engine) -> Group:
    """Everything that a caller may want to know about one of the engines."""
    tables = [_build_facts(_list_facts(capabilities, engine))]
    if engine.image is not None:
        tables.append(_build_facts(_list_image_facts(engine.image), "image"))
    if engine.audio is not None:
        tables.append(_build_facts(_list_audio_facts(engine.audio), "audio"))
    options = _new_table("option", "type", "default", "description")
    for option in describe_options(engine.options_schema):
        _add_row(options, option.name, option.type, option.default, option.description)
    if options.row_count:
        tables.append(options)
    if engine.runtimes:
        tables.append(_build_facts(_list_runtimes(engine), "runtimes"))
    if engine.versions:
        tables.append(_build_facts(iter(engine.versions.items()), "versions"))
    return Group(*(part for table in tables for part in (table, Text())))


def format_price(engine: Engine) -> str:
    """The price with its unit, or free."""
    if engine.price is None:
        return "free"
    return f"{engine.price.amount:g} {engine.price.currency}/{engine.price.unit}"


def format_state(engine: Engine) -> str:
    """The state, why it is not ready, and whether it is paused."""
    state = f"{engine.state}: {engine.state_message}" if engine.state_message else engine.state
    return state if engine.pause is None else f"{state}, {format_pause(engine.pause)}"


def format_pause(pause: EnginePause) -> str:
    """That an engine is paused, and why."""
    return f"paused ({pause.reason})" if pause.reason else "paused"


def format_range(limits: IntegerRange | NumberRange | None) -> str:
    """The limits, or all allowed values; empty where it cannot be chosen."""
    if limits is None:
        return ""
    if isinstance(limits, IntegerRange) and limits.allowed_values:
        return ", ".join(map(str, limits.allowed_values))
    return f"{limits.min:g}–{limits.max:g}"


def _list_facts(capabilities: Capabilities, engine: Engine) -> _Facts:
    default = " (the default)" if engine.name == capabilities.default_engine else ""
    load = engine.load
    yield "engine", engine.name + default
    yield "type", engine.type + (", a placeholder for a model" if engine.placeholder else "")
    yield "", engine.description
    yield "state", format_state(engine)
    yield "load", f"{load.running} of {load.concurrency} running, {load.queued} queued"
    yield "time", "" if load.service_seconds is None else f"{load.service_seconds:.2g} s (median)"
    yield "price", format_price(engine)
    yield "fallbacks", _join(engine.fallbacks)
    yield "cancelling", _CANCEL[engine.cancel_support]
    yield "repeating", _REPRODUCIBILITY[engine.reproducibility]


def _list_runtimes(engine: Engine) -> _Facts:
    for component, runtime in engine.runtimes.items():
        reason = engine.runtime_fallbacks.get(component, "")
        yield component, f"{runtime}, not as configured: {reason}" if reason else runtime


def _list_image_facts(image: ImageCapabilities) -> _Facts:
    can = (feature.replace("_", "-") for feature in sorted(image.features))
    yield "can", _join(("only upscale",) if image.upscale_only else ("text-to-image", *can))
    yield "width", _format_default(image.width)
    yield "height", _format_default(image.height)
    yield "pixels", f"up to {image.max_pixels}" if image.max_pixels else ""
    yield "steps", _format_default(image.steps)
    yield "guidance", _format_default(image.guidance)
    yield "images", f"up to {image.max_images}"
    yield "prompt", f"up to {image.max_prompt_length} characters"
    yield "models", _join_models(image.models)
    yield "styles", _join(image.styles)
    yield "LoRAs", _limit(_join(image.loras), image.max_loras)
    yield from (
        (f"  {lora}", f"trigger words: {_join(words)}")
        for lora, words in image.lora_trigger_words.items()
    )
    yield "embeddings", _join(image.embeddings)
    yield "controls", _limit(_join(image.control_types), image.max_controls)
    yield "schedulers", _join(image.schedulers)
    yield "upscalers", _join(image.upscalers)
    yield "profiles", _join(image.resource_profiles)
    yield "safety", _join(image.safety_modes)
    yield "formats", _join(image.formats)


def _list_audio_facts(audio: AudioCapabilities) -> _Facts:
    can = sorted(audio.features | audio.server_features)
    yield "can", _join(feature.replace("_", "-") for feature in can)
    lasts = "as long as its words" if audio.prompt_decides_duration else None
    yield "seconds", lasts or _format_default(audio.duration_seconds)
    yield "steps", _format_default(audio.steps)
    yield "guidance", _format_default(audio.guidance)
    yield "hertz", _default_first(audio.sample_rates, audio.output_sample_rates)
    yield "channels", _default_first(audio.channels, audio.output_channels)
    yield "candidates", f"up to {audio.max_candidates}"
    yield "prompt", f"up to {audio.max_prompt_length} characters"
    yield "models", _join_models(audio.models)
    yield "words", _join(sorted(audio.vocabulary))
    yield "formats", _join(audio.formats)


def _format_default(limits: IntegerRange | NumberRange | None) -> str:
    """The limits with the grid, and the default."""
    if limits is None:
        return ""
    grid = ""
    if isinstance(limits, IntegerRange) and limits.multiple_of > 1 and not limits.allowed_values:
        grid = f" in multiples of {limits.multiple_of}"
    return f"{format_range(limits)}{grid}, {limits.default:g} if not given"


def _default_first(made: Sequence[int], offered: Sequence[int]) -> str:
    """Numbers that a task can ask for: what the engine makes, and in brackets what the server makes of it."""
    more = _join(str(number) for number in offered if number not in made)
    return _join(map(str, made)) + (f" (made of these: {more})" if more else "")


def _limit(names: str, most: int) -> str:
    return f"{names} (up to {most} at once)" if names and most else names


def _join(names: Iterable[str]) -> str:
    return ", ".join(names)


def _join_models(models: Iterable[Model]) -> str:
    return _join(
        f"{model.name} ({model.family})" if model.family else model.name for model in models
    )


def _build_facts(facts: _Facts, title: str = "") -> Table:
    """A table of the facts that are known, under a title."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=bool(title))
    table.add_column(title, no_wrap=True, min_width=10)
    table.add_column()
    for name, value in facts:
        if value:
            _add_row(table, name, value)
    return table


def _new_table(*headers: str) -> Table:
    return Table(*headers, box=None, padding=(0, 2, 0, 0))


def _add_row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(cell) for cell in cells))
