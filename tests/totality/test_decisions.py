"""What is decided about a request is the same for an engine here and behind another server."""

from __future__ import annotations

import io
from contextlib import nullcontext
from dataclasses import replace

import pytest
from PIL import Image

from atelier_client import AsyncClient, AtelierError, Upscale
from atelier_client.enums import Disposition
from atelier_engines.capabilities import Capabilities, IntegerRange
from atelier_engines.event import Output
from atelier_engines.media import Encoded
from atelier_engines.task import ImageTask
from tests.totality.conftest import Serve
from tests.totality.recording_engine import RecordingEngine
from tests.totality.tasks import PERMISSIVE

FEW_STEPS = IntegerRange(min=1, max=8, default=4, allowed_values=(1, 2, 4, 8))


def recording(**limits: object) -> RecordingEngine:
    """An engine with those limits that makes one small image of every task."""
    assert PERMISSIVE.image is not None
    image = replace(PERMISSIVE.image, **limits)  # type: ignore[arg-type]  # fields by name
    capabilities: Capabilities = replace(PERMISSIVE, image=image)
    made = Encoded(media_type="image/png", data=png(8, 8), width=8, height=8)
    return RecordingEngine(capabilities, (Output(media=made, seed=1),))


def png(width: int, height: int) -> bytes:
    """A black image in a file."""
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def last_task(engine: RecordingEngine) -> ImageTask:
    """What the engine was asked to do last."""
    task = engine.tasks[-1]
    assert isinstance(task, ImageTask)
    return task


@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_steps_that_the_model_does_not_allow_are_clamped(serve: Serve, engine: str) -> None:
    """Planned, recorded and done alike: three steps are four where 1, 2, 4 and 8 are allowed."""
    recorded = recording(steps=FEW_STEPS)
    async with serve(recorded) as address, AsyncClient(address) as client:
        plan = await client.plan("a lamp", engine=engine, steps=3)
        generation = await client.generate("a lamp", engine=engine, steps=3)
    assert plan.accepted
    assert generation.receipt is not None
    for parameters in (plan.parameters, generation.receipt.parameters):
        (steps,) = [parameter for parameter in parameters if parameter.name == "steps"]
        assert (steps.requested, steps.value) == (3, 4)
        assert steps.disposition is Disposition.CLAMPED
    assert last_task(recorded).steps == 4


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_the_init_image_decides_the_size_here_and_there(
    serve: Serve, engine: str, *, keeps: bool
) -> None:
    """Where the engine says so, and nobody asks for another size."""
    recorded = recording(keeps_init_size=keeps)
    async with serve(recorded) as address, AsyncClient(address) as client:
        await client.generate("a lamp", engine=engine, init_image=png(192, 96))
    task = last_task(recorded)
    assert (task.width, task.height) == ((192, 96) if keeps else (128, 128))


@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_an_aspect_ratio_is_resolved_for_the_engine_here_and_there(
    serve: Serve, engine: str
) -> None:
    """The nearest server decides the size that the others are asked for; an engine that only upscales has none."""
    recorded, upscaling = recording(), recording(upscale_only=True)
    async with serve(recorded) as address, AsyncClient(address) as client:
        await client.generate("a lamp", engine=engine, aspect_ratio="2:1")
    assert (last_task(recorded).width, last_task(recorded).height) == (176, 88)
    async with serve(upscaling) as address, AsyncClient(address) as client:
        given = {"engine": engine, "init_image": png(64, 64), "upscale": Upscale(factor=2.0)}
        made = await client.generate("a lamp", aspect_ratio="2:1", **given)  # type: ignore[call-overload]  # fields by name
    assert (last_task(upscaling).width, last_task(upscaling).height) == (64, 64)
    ignored = {one.name for one in made.receipt.parameters if one.value is None}
    assert "aspect_ratio" in ignored


@pytest.mark.parametrize(
    "limit", ["ignores_strength", "upscale_only", "inpainting_ignores_strength"]
)
@pytest.mark.parametrize("strength", [None, 0.25])
@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_a_strength_without_effect_is_told_and_not_passed_on(
    serve: Serve, engine: str, strength: float | None, limit: str
) -> None:
    """An engine behind another server runs the task all the same; a strict request is refused."""
    recorded = recording(**{limit: True})
    given = {"engine": engine, "init_image": png(128, 128), "upscale": Upscale(factor=2.0)}
    if limit == "inpainting_ignores_strength":
        given["mask"] = png(128, 128)
    async with serve(recorded) as address, AsyncClient(address) as client:
        generation = await client.generate("a lamp", strength=strength, **given)  # type: ignore[call-overload]  # fields by name
        assert generation.receipt is not None
        told = [one for one in generation.receipt.parameters if one.name == "strength"]
        assert [one.disposition for one in told] == [Disposition.IGNORED] * (strength is not None)
        if strength is not None:
            with pytest.raises(AtelierError):
                await client.generate("a lamp", strength=strength, strict=True, **given)  # type: ignore[call-overload]  # fields by name


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_a_negative_prompt_that_a_mask_excludes_is_told_and_not_passed_on(
    serve: Serve, engine: str, *, masked: bool
) -> None:
    """Without a mask it is applied; a strict request with one is refused before the engine gets it."""
    recorded = recording(inpainting_ignores_negative_prompt=True)
    given = {"engine": engine, "init_image": png(128, 128), "negative_prompt": "fog"}
    if masked:
        given["mask"] = png(128, 128)
    async with serve(recorded) as address, AsyncClient(address) as client:
        generation = await client.generate("a lamp", **given)  # type: ignore[call-overload]  # fields by name
        with pytest.raises(AtelierError, match="together") if masked else nullcontext():
            await client.plan("a lamp", strict=True, **given)  # type: ignore[arg-type]  # fields by name
    assert generation.receipt is not None
    (told,) = [one for one in generation.receipt.parameters if one.name == "negative_prompt"]
    assert told.disposition is (Disposition.IGNORED if masked else Disposition.APPLIED)
    assert last_task(recorded).negative_prompt == ("" if masked else "fog")


@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_previews_come_as_often_as_the_engine_sends_them(serve: Serve, engine: str) -> None:
    """Where nobody says how often."""
    recorded = recording(default_preview_interval=7)
    async with serve(recorded) as address, AsyncClient(address) as client:
        await client.generate("a lamp", engine=engine)
    assert last_task(recorded).preview_interval == 7


@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_the_receipt_names_the_versions_of_the_engine(serve: Serve, engine: str) -> None:
    """Those of the one that did the work, here or there."""
    recorded = recording()
    recorded.capabilities = replace(recorded.capabilities, versions={"torch": "2.9"})
    async with serve(recorded) as address, AsyncClient(address) as client:
        generation = await client.generate("a lamp", engine=engine)
    assert generation.receipt is not None
    assert generation.receipt.recipe is not None
    assert generation.receipt.recipe.versions["torch"] == "2.9"


@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_words_that_the_model_does_not_know_are_told_and_sent(
    serve: Serve, engine: str
) -> None:
    """The nearest server notes them; no other refuses them."""
    recorded = recording(vocabulary=frozenset({"a", "lamp"}))
    async with serve(recorded) as address, AsyncClient(address) as client:
        generation = await client.generate("a lamp, zebra", engine=engine)
        with pytest.raises(AtelierError, match="zebra"):
            await client.generate("a lamp, zebra", engine=engine, strict=True)
    assert last_task(recorded).prompt == "a lamp, zebra"
    assert generation.receipt is not None
    ignored = [
        parameter.name
        for parameter in generation.receipt.parameters
        if parameter.disposition is Disposition.IGNORED
    ]
    assert ignored == ["prompt"]


@pytest.mark.parametrize("engine", ["deep", "far"])
async def test_a_size_that_the_engine_makes_is_told(serve: Serve, engine: str) -> None:
    """The image is not lost on its way; a strict request is refused, unless it excepts the size."""
    recorded = recording()
    made = Encoded(media_type="image/png", data=png(16, 32), width=16, height=32)
    recorded.events = (Output(media=made, seed=1, size_reason="two passes"),)
    task = {"engine": engine, "width": 64, "height": 64, "seed": 1}
    async with serve(recorded) as address, AsyncClient(address) as client:
        generation = await client.generate("a lamp", **task)  # type: ignore[call-overload]  # fields by name
        excepted = await client.generate(
            "a lamp", strict=True, strict_except=["width", "height"], **task
        )  # type: ignore[call-overload]  # fields by name
        with pytest.raises(AtelierError, match="two passes"):
            await client.generate("a lamp", strict=True, strict_except=["width"], **task)  # type: ignore[call-overload]  # fields by name
    for one in (generation, excepted):
        assert one.receipt is not None
        told = {entry.name: entry for entry in one.receipt.parameters}
        assert (told["width"].value, told["height"].value) == (16, 32)
        assert {told[name].disposition for name in ("width", "height")} == {Disposition.CLAMPED}
        assert told["width"].explanation == "two passes"
