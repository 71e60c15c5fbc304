"""Requests, progress and results of a replicate engine."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr, ValidationError

from atelier_engines.capabilities import ImageCapabilities, ImageFeature, IntegerRange
from atelier_engines.conformance.fake_server import respond
from atelier_engines.conformance.remote_service import collect_events, collect_outputs, run_engine
from atelier_engines.engine import Engine
from atelier_engines.errors import InvalidTaskError
from atelier_engines.event import Output, Stage, Step
from atelier_engines.task import ImageTask, SafetyMode
from atelier_engines.vendors.replicate.config import ReplicateConfig
from tests.vendors.calls import outputs, plain
from tests.vendors.replicate.models import (
    FRAMES,
    KONTEXT,
    PRO,
    SCHNELL,
    SDXL,
    SDXL_VERSION,
    UNSEEDED,
)
from tests.vendors.replicate.stand_in import KEY, TASK, Job, StandIn

BARE = ImageTask(prompt="a mill", width=128, height=136, seeds=(7,))


async def only_job(vendor: StandIn, task: ImageTask = TASK, **settings: object) -> Job:
    """The prediction of a task that succeeds."""
    assert await collect_outputs(vendor, task, **settings)
    (job,) = vendor.jobs.values()
    return job


def image_of(engine: Engine) -> ImageCapabilities:
    """Its image capabilities."""
    assert engine.capabilities.image is not None
    return engine.capabilities.image


async def test_a_task_is_one_prediction_and_its_image_arrives_byte_for_byte(
    vendor: StandIn,
) -> None:
    """The input has everything that determines the image; the token goes to the service only."""
    events = await collect_events(vendor)
    (job,) = vendor.jobs.values()
    assert job.body == {
        "prompt": "a lighthouse",
        "width": 128,
        "height": 136,
        "num_inference_steps": 4,
        "guidance_scale": 6.0,
        "scheduler": "K_EULER",
        "num_outputs": 1,
        "seed": 7,
    }
    (image,) = outputs(events)
    assert image.data == vendor.drawn(job)
    assert (image.media_type, image.width, image.height) == ("image/png", 128, 136)
    assert vendor.leaks == 0


async def test_stages_and_steps_are_reported(vendor: StandIn) -> None:
    """Steps come from log lines with the same total, and never go backwards."""
    told = [event for event in await collect_events(vendor) if isinstance(event, Stage | Step)]
    assert told == [
        Stage(name="submit"),
        Stage(name="queued"),
        Stage(name="generate"),
        Step(index=1, total=4),
        Step(index=3, total=4),
        Step(index=4, total=4),
    ]


async def test_a_community_model_is_run_by_the_version_whose_schema_was_read(
    vendor: StandIn,
) -> None:
    """The receipt can name it."""
    async with run_engine(vendor) as engine:
        assert engine.capabilities.versions == {SDXL: SDXL_VERSION}
    job = await only_job(vendor)
    assert (job.model, job.version) == (SDXL, SDXL_VERSION)


async def test_an_official_model_is_run_by_its_name(vendor: StandIn) -> None:
    """It has no versions to choose from."""
    job = await only_job(vendor, replace(BARE, steps=4), model=SCHNELL)
    assert (job.model, job.version) == (SCHNELL, "hidden")


async def test_the_service_is_told_when_to_end_a_prediction(vendor: StandIn) -> None:
    """At the deadline of the task, which is at least the service's minimum."""
    job = await only_job(vendor, timeout_seconds=90)
    assert job.headers["cancel-after"] == "90s"
    vendor.reset()
    assert (await only_job(vendor, timeout_seconds=4)).headers["cancel-after"] == "5s"


@pytest.mark.parametrize("status", ["processing", "succeeded"])
async def test_a_prediction_that_ends_while_its_request_is_held_is_not_missed(
    vendor: StandIn, status: str
) -> None:
    """The answer may be final, or say that it is still processing although it has its output."""
    vendor.finishes_in = status
    job = await only_job(vendor, wait_seconds=5)
    assert job.headers["prefer"] == "wait=5"
    assert job.asked == (0 if status == "succeeded" else 1)


async def test_only_the_last_request_is_held(vendor: StandIn) -> None:
    """The others would delay it; with 0 none is."""
    task = replace(TASK, seeds=(3, 2**32 - 1, 5))
    events = await collect_events(vendor, task)
    held = [job.headers.get("prefer") for job in vendor.jobs.values()]
    assert held == [None, None, "wait=1"]
    assert [job.body["seed"] for job in vendor.jobs.values()] == [3, 2**32 - 1, 5]
    assert [event.seed for event in events if isinstance(event, Output)] == [3, 2**32 - 1, 5]
    vendor.reset()
    assert "prefer" not in (await only_job(vendor, wait_seconds=0)).headers


async def test_an_init_image_is_uploaded_once_for_all_predictions(vendor: StandIn) -> None:
    """In the size of the result; strength has the name that the model gives it."""
    task = replace(TASK, seeds=(1, 2), init_image=plain(900, 20, 77), strength=0.6)
    assert len(outputs(await collect_events(vendor, task))) == 2
    ((file_id, data),) = vendor.files.items()
    for job in vendor.jobs.values():
        assert job.body["image"] == f"{vendor.api}/v1/files/{file_id}"
        assert job.body["prompt_strength"] == 0.6
    sent = np.asarray(Image.open(io.BytesIO(data)))
    assert sent.shape == (136, 128, 3)
    assert (sent == 77).all()


async def test_an_init_image_can_be_sent_inside_the_request(vendor: StandIn) -> None:
    """Nothing is uploaded."""
    task = replace(TASK, init_image=plain(8, 8, 77))
    job = await only_job(vendor, task, image_transfer="inline")
    assert Image.open(io.BytesIO(vendor.read_file(job.body["image"]))).size == (128, 136)
    assert vendor.files == {}


async def test_a_mask_is_sent_white_where_to_inpaint(vendor: StandIn) -> None:
    """One channel, only the values 0 and 255."""
    mask = plain(128, 136, 0)
    mask.array[:40] = 200
    job = await only_job(vendor, replace(TASK, init_image=plain(128, 136, 9), mask=mask))
    sent = np.asarray(Image.open(io.BytesIO(vendor.read_file(job.body["mask"]))))
    assert (sent[:40] == 255).all()
    assert (sent[40:] == 0).all()


async def test_the_schema_decides_the_capabilities(vendor: StandIn) -> None:
    """Ranges, schedulers with the default first, options for what no field of a task decides."""
    async with run_engine(vendor, inputs={"apply_watermark": False}) as engine:
        image = image_of(engine)
        assert image.steps == IntegerRange(min=1, max=500, default=50)
        assert image.guidance is not None
        assert (image.guidance.min, image.guidance.max, image.guidance.default) == (1, 50, 7.5)
        assert image.schedulers[0] == "K_EULER"
        assert len(image.schedulers) == 7
        assert not image.ignores_strength
        options: Any = engine.capabilities.options_schema["properties"]
        assert [*options] == ["refine", "high_noise_frac", "refine_steps", "replicate_weights"]
        assert options["refine"]["enum"][0] == "no_refiner"
        assert options["high_noise_frac"]["maximum"] == 1


async def test_a_model_supports_no_feature_that_it_has_no_input_for(vendor: StandIn) -> None:
    """Such tasks are refused, or the receipt says that a value has no effect."""
    async with run_engine(vendor, model=UNSEEDED) as engine:
        image = image_of(engine)
        assert image.features == frozenset()
        assert (image.steps, image.guidance, image.schedulers) == (None, None, ())
        assert image.ignores_strength
    async with run_engine(vendor, model=KONTEXT) as engine:
        image = image_of(engine)
        assert image.features == {ImageFeature.IMAGE_TO_IMAGE, ImageFeature.SEED}
        assert image.ignores_strength


async def test_a_model_without_pixels_takes_the_most_similar_aspect_ratio(
    vendor: StandIn,
) -> None:
    """Its image is scaled and cropped to the size; the best file format is requested."""
    task = replace(BARE, width=320, height=176, steps=4)
    events = await collect_events(vendor, task, model=SCHNELL)
    (job,) = vendor.jobs.values()
    assert (job.body["aspect_ratio"], job.body["output_format"]) == ("16:9", "png")
    assert "width" not in job.body
    media: Any = next(event.media for event in events if isinstance(event, Output))
    assert (media.width, media.height) == (320, 176)


async def test_a_model_whose_size_needs_a_certain_ratio_gets_both(vendor: StandIn) -> None:
    """Otherwise width and height would have no effect."""
    job = await only_job(vendor, replace(BARE, width=512, height=256), model=PRO)
    sent = {name: job.body[name] for name in ("aspect_ratio", "width", "height")}
    assert sent == {"aspect_ratio": "custom", "width": 512, "height": 256}


async def test_options_and_fixed_inputs_reach_the_model(vendor: StandIn) -> None:
    """A whole number is sent without a point, whatever the caller's JSON says."""
    task = replace(TASK, options={"refine": "base_image_refiner", "refine_steps": 5.0})
    job = await only_job(vendor, task, inputs={"apply_watermark": False})
    assert job.body["refine"] == "base_image_refiner"
    assert repr(job.body["refine_steps"]) == "5"
    assert job.body["apply_watermark"] is False


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"refine": "always"}, "options.refine"),
        ({"high_noise_frac": 1.5}, "options.high_noise_frac"),
        ({"seed": 3}, "options.seed"),
        ({"image": "https://example.org/a.png"}, "options.image"),
        ({"apply_watermark": True}, "options.apply_watermark"),
    ],
)
async def test_an_option_that_does_not_fit_the_schema_is_refused_before_anything_is_sent(
    vendor: StandIn, options: dict[str, Any], field: str
) -> None:
    """Neither what a field decides nor what the configuration fixes is an option."""
    task = replace(TASK, options=options, init_image=plain(8, 8, 1))
    with pytest.raises(InvalidTaskError) as error:
        await collect_events(vendor, task, inputs={"apply_watermark": False})
    assert error.value.field == field
    assert (vendor.accepted, vendor.files) == (0, {})


async def test_names_of_inputs_can_be_configured(vendor: StandIn) -> None:
    """With an unusual model: sizes to choose from, a list of images, a range of seeds, a required option."""
    fields = {"prompt": "text", "init_image": "pages"}
    async with run_engine(vendor, model=FRAMES, fields=fields) as engine:
        assert image_of(engine).width.allowed_values == (256, 512)
        assert (image_of(engine).min_seed, image_of(engine).max_seed) == (1, 1000)
        assert engine.capabilities.options_schema["required"] == ["loop"]
    task = replace(BARE, width=256, height=256, seeds=(1000,), init_image=plain(8, 8, 3))
    settings: dict[str, Any] = {"model": FRAMES, "fields": fields}
    with pytest.raises(InvalidTaskError, match=r"requires options\.loop"):
        await collect_events(vendor, task, **settings)
    assert vendor.files == {}
    job = await only_job(vendor, replace(task, options={"loop": "on"}), **settings)
    assert job.body["text"] == "a mill"
    assert job.body["seed"] == 1000
    (url,) = job.body["pages"]
    assert vendor.read_file(url)


async def test_an_input_that_takes_a_key_is_no_option_and_is_shown_nowhere(
    vendor: StandIn,
) -> None:
    """The configuration sets it, and no error repeats it."""
    secret = {"other_key": "a-secret-of-another-service"}
    async with run_engine(vendor, model=UNSEEDED) as engine:
        options: Any = engine.capabilities.options_schema["properties"]
        assert [*options] == ["scheduler", "mood"]
        assert options["mood"]["enum"] == ["calm"]
    job = await only_job(vendor, BARE, model=UNSEEDED, secret_inputs=secret)
    assert job.body["other_key"] == secret["other_key"]
    told = f"- input.other_key: {secret['other_key']} is no key"
    vendor.submits.add(respond(422, {"title": "Input validation failed", "detail": told}))
    with pytest.raises(InvalidTaskError) as error:
        await collect_events(vendor, BARE, model=UNSEEDED, secret_inputs=secret)
    assert secret["other_key"] not in str(error.value)
    config = ReplicateConfig(api_key=SecretStr(KEY), model=UNSEEDED, secret_inputs=secret)
    assert secret["other_key"] not in repr(config) + str(config.model_dump())


async def test_of_outputs_that_grow_the_last_one_is_the_result(vendor: StandIn) -> None:
    """The model's schema says that it is an iterator."""
    fields = {"prompt": "text"}
    task = replace(BARE, options={"loop": "off"}, width=256, height=256)
    (image,) = outputs(await collect_events(vendor, task, model=FRAMES, fields=fields))
    (job,) = vendor.jobs.values()
    assert image.data == vendor.drawn(job, 2)


@pytest.mark.parametrize("shape", ["schema", "object", "inline"])
async def test_every_form_of_an_output_is_understood(vendor: StandIn, shape: str) -> None:
    """A list, an object with one file, a data URI."""
    vendor.shape = shape
    (image,) = outputs(await collect_events(vendor))
    (job,) = vendor.jobs.values()
    assert image.data == vendor.drawn(job)


async def test_callers_may_be_stricter_than_the_configuration_never_laxer(
    vendor: StandIn,
) -> None:
    """The configured mode is the laxest one that is supported."""
    async with run_engine(vendor) as engine:
        assert image_of(engine).safety_modes == (SafetyMode.BLOCK,)
    async with run_engine(vendor, safety="off") as engine:
        assert image_of(engine).safety_modes == (SafetyMode.BLOCK, SafetyMode.OFF)
    job = await only_job(vendor, replace(TASK, safety_mode=SafetyMode.BLOCK), safety="off")
    assert "disable_safety_checker" not in job.body


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "sdxl"},
        {"model": "stability-ai/sdxl:latest"},
        {"model": "stability-ai/sdxl/x"},
        {"wait_seconds": 61},
        {"fields": {"colour": "x"}},
        {"safety": "flag"},
        {"base_url": "ftp://replicate.com"},
        {"inputs": {"key": "a"}, "secret_inputs": {"key": "b"}},
    ],
    ids=range(8),
)
def test_invalid_settings_are_refused_when_the_configuration_is_read(
    settings: dict[str, object],
) -> None:
    """Not only when the engine starts."""
    with pytest.raises(ValidationError):
        ReplicateConfig.model_validate({"api_key": KEY, "model": SDXL, **settings})
