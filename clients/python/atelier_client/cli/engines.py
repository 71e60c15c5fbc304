"""`atelier engines`: what each engine can do, its limits, and how busy it is."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connect, connection_options
from atelier_client.engines import (
    Capabilities,
    Engine,
    ImageCapabilities,
    IntegerRange,
    NumberRange,
)
from atelier_client.enums import AudioFeature, ImageFeature

_IMAGE_COLUMNS = {
    ImageFeature.IMAGE_TO_IMAGE: "img2img",
    ImageFeature.INPAINTING: "inpaint",
    ImageFeature.CONTROLNET: "control",
    ImageFeature.CONTROL_PREPROCESSING: "maps",
    ImageFeature.NEGATIVE_PROMPT: "negative",
    ImageFeature.SEED: "seed",
    ImageFeature.SCHEDULER: "sampler",
    ImageFeature.LORA: "LoRA",
    ImageFeature.UPSCALING: "upscale",
    ImageFeature.PREVIEW: "preview",
}
_AUDIO_COLUMNS = {
    AudioFeature.NEGATIVE_PROMPT: "negative",
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
    for table in (_states(capabilities), _pictures(capabilities), _sounds(capabilities)):
        if table.row_count:
            console.print(table)


def _states(capabilities: Capabilities) -> Table:
    table = Table("engine", "type", "state", "load", "price", "about", box=None)
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


def _pictures(capabilities: Capabilities) -> Table:
    headers = ("pictures", "width", "height", "steps", "count", *_IMAGE_COLUMNS.values())
    table = Table(*headers, box=None)
    for engine in capabilities.engines:
        if engine.image is not None:
            _add(table, engine.name, *_limits(engine.image), *_marks(engine.image))
    return table


def _sounds(capabilities: Capabilities) -> Table:
    table = Table("sounds", "seconds", "hertz", *_AUDIO_COLUMNS.values(), box=None)
    for engine in capabilities.engines:
        if engine.audio is not None:
            features = engine.audio.features
            marks = ("✓" if feature in features else "–" for feature in _AUDIO_COLUMNS)
            rates = ", ".join(str(rate) for rate in engine.audio.sample_rates)
            _add(table, engine.name, _span(engine.audio.duration_seconds), rates, *marks)
    return table


def _limits(image: ImageCapabilities) -> tuple[str, ...]:
    return _span(image.width), _span(image.height), _span(image.steps), str(image.max_count)


def _marks(image: ImageCapabilities) -> tuple[str, ...]:
    return tuple("✓" if feature in image.features else "–" for feature in _IMAGE_COLUMNS)


def _span(limits: IntegerRange | NumberRange | None) -> str:
    return "" if limits is None else f"{limits.min:g}–{limits.max:g}"


def _price(engine: Engine) -> str:
    if engine.price is None:
        return "free"
    return f"{engine.price.amount:g} {engine.price.currency}/{engine.price.unit}"


def _add(table: Table, *cells: str) -> None:
    table.add_row(*(Text(cell) for cell in cells))
