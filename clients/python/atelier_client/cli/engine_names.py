"""The names that the tasks of an engine may use, the default first."""

from __future__ import annotations

from atelier_client.engines import Engine


def list_styles(engine: Engine) -> tuple[str, ...]:
    """Styles, for `--style`."""
    return () if engine.image is None else engine.image.styles


def list_models(engine: Engine) -> tuple[str, ...]:
    """Models for images and for audio, for `--model`."""
    kinds = (kind.models for kind in (engine.image, engine.audio) if kind is not None)
    return tuple(dict.fromkeys(model.name for models in kinds for model in models))


def list_loras(engine: Engine) -> tuple[str, ...]:
    """LoRAs, for `--lora`."""
    return () if engine.image is None else engine.image.loras


def list_schedulers(engine: Engine) -> tuple[str, ...]:
    """Schedulers, for `--scheduler`."""
    return () if engine.image is None else engine.image.schedulers


def list_controls(engine: Engine) -> tuple[str, ...]:
    """Types of control images, for `--control`."""
    return () if engine.image is None else engine.image.control_types


NAMED_BY = {
    "--style": list_styles,
    "--model": list_models,
    "--lora": list_loras,
    "--scheduler": list_schedulers,
    "--control": list_controls,
}
"""Options whose values are names."""
