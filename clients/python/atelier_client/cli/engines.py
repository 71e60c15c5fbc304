"""`atelier engines`: all engines in tables, or the page of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from atelier_client.cli.completion_values import complete_engine
from atelier_client.cli.connection import connect
from atelier_client.cli.engine_names import NAMED_BY
from atelier_client.cli.engine_page import (
    build_engine_page,
    format_price,
    format_range,
    format_state,
)
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connection_options
from atelier_client.engines import Capabilities
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
    AudioFeature.AUDIO_TO_AUDIO: "audio2audio",
}


@click.command("engines")
@click.argument("name", default="", metavar="[NAME]", shell_complete=complete_engine)
@connection_options
def engines_command(*, name: str, server: str, as_json: bool) -> None:
    """Show the state, load, limits, features and names of every engine, or everything about one."""
    with connect(server) as client:
        capabilities = client.capabilities(name)
    if as_json:
        echo_json(capabilities)
        return
    console = Console()
    if name:
        for engine in capabilities.engines:
            console.print(build_engine_page(capabilities, engine))
        return
    for build in _TABLES:
        table = build(capabilities)
        if table.row_count:
            console.print(table)
            console.print()


def _build_state_table(capabilities: Capabilities) -> Table:
    table = _new_table("engine", "type", "state", "load", "price", "description")
    for engine in capabilities.engines:
        default = " *" if engine.name == capabilities.default_engine else ""
        load = f"{engine.load.running}/{engine.load.concurrency} +{engine.load.queued}"
        _add_row(
            table,
            engine.name + default,
            engine.type,
            format_state(engine),
            load,
            format_price(engine),
            engine.description,
        )
    return table


def _build_limits_table(capabilities: Capabilities) -> Table:
    table = _new_table("limits", "width", "height", "pixels", "steps", "images")
    for engine in capabilities.engines:
        if (image := engine.image) is not None:
            sizes = format_range(image.width), format_range(image.height), str(image.max_pixels)
            _add_row(table, engine.name, *sizes, format_range(image.steps), str(image.max_images))
    return table


def _build_image_table(capabilities: Capabilities) -> Table:
    table = _new_table("image", *_IMAGE_COLUMNS.values())
    for engine in capabilities.engines:
        if engine.image is not None:
            _add_row(table, engine.name, *_mark_features(_IMAGE_COLUMNS, engine.image.features))
    return table


def _build_audio_table(capabilities: Capabilities) -> Table:
    table = _new_table("audio", "seconds", "hertz", *_AUDIO_COLUMNS.values())
    for engine in capabilities.engines:
        if engine.audio is not None:
            marks = _mark_features(_AUDIO_COLUMNS, engine.audio.features)
            rates = ", ".join(str(rate) for rate in engine.audio.sample_rates)
            _add_row(table, engine.name, format_range(engine.audio.duration_seconds), rates, *marks)
    return table


def _mark_features(columns: Mapping[_F, str], features: frozenset[_F]) -> tuple[str, ...]:
    return tuple("✓" if feature in features else "–" for feature in columns)


def _build_names_table(capabilities: Capabilities) -> Table:
    table = _new_table("names", "option", "values")
    for engine in capabilities.engines:
        for option, list_names in NAMED_BY.items():
            if names := list_names(engine):
                _add_row(table, engine.name, option, ", ".join(names))
    return table


def _new_table(*headers: str) -> Table:
    return Table(*headers, box=None, padding=(0, 1, 0, 0))


def _add_row(table: Table, *cells: str) -> None:
    table.add_row(*(Text(cell) for cell in cells))


_TABLES = (
    _build_state_table,
    _build_limits_table,
    _build_image_table,
    _build_audio_table,
    _build_names_table,
)
