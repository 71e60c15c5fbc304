"""`atelier engines`: what each engine can do, its limits, and how busy it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connect, connection_options
from atelier_client.engines import (
    Capabilities,
    Engine,
    IntegerRange,
    NumberRange,
)
from atelier_client.enums import AudioFeature, ImageFeature

_F = TypeVar("_F", ImageFeature, AudioFeature)
_IMAGE_COLUMNS = {
    ImageFeature.IMAGE_TO_IMAGE: "img2img",
    ImageFeature.INPAINTING: "inpaint",
    ImageFeature.CONTROLNET: "control",
    ImageFeature.CONTROL_PREPROCESSING: "maps",
    ImageFeature.NEGATIVE_PROMPT: "neg",
    ImageFeature.SEED: "seed",
    ImageFeature.SCHEDULER: "sampler",
    ImageFeature.LORA: "LoRA",
    ImageFeature.UPSCALING: "upscale",
    ImageFeature.PREVIEW: "preview",
}
_AUDIO_COLUMNS = {
    AudioFeature.NEGATIVE_PROMPT: "neg",
    AudioFeature.SEED: "seed",
    AudioFeature.SEAMLESS_LOOP: "loop",
    AudioFeature.LOUDNESS: "loudness",
    AudioFeature.CANDIDATES: "candidates",
}


@click.command("engines")
@click.option("--engine", default="", help="Only this one.")
@connection_options
def engines_command(*, engine: str, server: str, as_json: bool) -> None:
    """Show every engine: state, load, limits, and what it can do."""
    with connect(server) as client:
        capabilities = client.capabilities(engine)
    if as_json:
        echo_json(capabilities)
        return
    console = Console()
    for build in (_states, _limits, _pictures, _sounds):
        table = build(capabilities)
        if table.row_count:
            console.print(table)
            console.print()


def _states(capabilities: Capabilities) -> Table:
    table = _table("engine", "type", "state", "load", "price", "about")
    for engine in capabilities.engines:
        default = " *" if engine.name == capabilities.default_engine else ""
        state = f"{engine.state}: {engine.state_message}" if engine.state_message else engine.state
        load = f"{engine.load.running}/{engine.load.concurrency} +{engine.load.queued}"
        _add(
            table,
            engine.name + default,
            engine.type,
            state,
            load,
            _price(engine),
            engine.description,
        )
    return table


def _limits(capabilities: Capabilities) -> Table:
    table = _table("limits", "width", "height", "pixels", "steps", "count")
    for engine in capabilities.engines:
        if (image := engine.image) is not None:
            sizes = _span(image.width), _span(image.height), str(image.max_pixels)
            _add(table, engine.name, *sizes, _span(image.steps), str(image.max_images))
    return table


def _pictures(capabilities: Capabilities) -> Table:
    table = _table("pictures", *_IMAGE_COLUMNS.values())
    for engine in capabilities.engines:
        if engine.image is not None:
            _add(table, engine.name, *_marks(_IMAGE_COLUMNS, engine.image.features))
    return table


def _sounds(capabilities: Capabilities) -> Table:
    table = _table("sounds", "seconds", "hertz", *_AUDIO_COLUMNS.values())
    for engine in capabilities.engines:
        if engine.audio is not None:
            marks = _marks(_AUDIO_COLUMNS, engine.audio.features)
            rates = ", ".join(str(rate) for rate in engine.audio.sample_rates)
            _add(table, engine.name, _span(engine.audio.duration_seconds), rates, *marks)
    return table


def _marks(columns: Mapping[_F, str], features: frozenset[_F]) -> tuple[str, ...]:
    return tuple("✓" if feature in features else "–" for feature in columns)


def _span(limits: IntegerRange | NumberRange | None) -> str:
    return "" if limits is None else f"{limits.min:g}–{limits.max:g}"


def _price(engine: Engine) -> str:
    if engine.price is None:
        return "free"
    return f"{engine.price.amount:g} {engine.price.currency}/{engine.price.unit}"


def _table(*headers: str) -> Table:
    return Table(*headers, box=None, padding=(0, 1, 0, 0))


def _add(table: Table, *cells: str) -> None:
    table.add_row(*(Text(cell) for cell in cells))
