"""A model that cannot be loaded has its fallback, at once; the capabilities and the receipts say so."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from atelier.v1.generation_pb2 import Disposition
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.errors import ModelMissingError
from atelier_server.admission.model_choice import choose_model
from atelier_server.admission.parameters import ParameterRecorder
from tests.engines.diffusion.calls import generate_images, image_task


def engine(model: str, **settings: object) -> DiffusionEngine:
    """An engine with that model."""
    given = {"model": model, "device": "cpu", **settings}
    return DiffusionEngine(DiffusionConfig.model_validate(given))


async def test_the_fallback_is_used_at_once(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It draws with its own defaults, and its name and the reason are in the log and the capabilities."""
    broken = tmp_path / "portrait.safetensors"
    broken.write_bytes(b"no weights")
    made = engine(str(broken), fallback_model=str(model), preset="lightning", steps=2)
    plain = engine(str(model))
    with caplog.at_level(logging.WARNING, logger="atelier_engines"):
        await made.start()
    await plain.start()
    try:
        image, other = made.capabilities.image, plain.capabilities.image
        assert image is not None
        assert other is not None
        (found,) = image.models
        assert (found.name, found.digest) == (other.models[0].name, other.models[0].digest)
        assert found.fallback_for == "portrait"
        assert "portrait" in found.fallback_reason
        assert (image.steps, image.schedulers) == (other.steps, other.schedulers)
        assert await generate_images(made, image_task(steps=1))
    finally:
        await made.stop()
        await plain.stop()
    (line,) = [record for record in caplog.records if record.message == "model_fallback_used"]
    assert vars(line)["fallback"] == found.name
    recorder = ParameterRecorder()
    assert choose_model("", image.models, recorder) == found.name
    assert choose_model("portrait", image.models, recorder) == found.name
    assert choose_model(found.name, image.models, recorder) == found.name
    defaulted, clamped, applied = recorder.parameters
    assert defaulted.disposition == Disposition.DISPOSITION_DEFAULTED
    assert clamped.disposition == Disposition.DISPOSITION_CLAMPED
    assert applied.disposition == Disposition.DISPOSITION_APPLIED
    for noted in (defaulted, clamped):
        assert noted.explanation.startswith("portrait could not be loaded: ")


@pytest.mark.parametrize("fallback", [None, "/nowhere/else"])
async def test_without_a_fallback_that_loads_the_engine_is_unavailable(
    fallback: str | None,
) -> None:
    """As before; the error is that of the last one tried."""
    made = engine("/nowhere/at/all", fallback_model=fallback)
    with pytest.raises(ModelMissingError, match=fallback or "/nowhere/at/all"):
        await made.start()
