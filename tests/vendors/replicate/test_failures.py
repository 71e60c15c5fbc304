"""Failures of Replicate, each translated to an error; nothing is paid twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier_engines.conformance.fake_server import Handler, respond
from atelier_engines.conformance.remote import RemoteConformance
from atelier_engines.conformance.remote_service import (
    FakeService,
    collect_events,
    crash,
)
from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
    InvalidTaskError,
    JobStoppedError,
    ModelMissingError,
    OutOfMemoryError,
)
from tests.vendors.calls import failed_submissions, outputs
from tests.vendors.replicate.models import LLAMA, SCHNELL, SDXL, UNSEEDED
from tests.vendors.replicate.stand_in import KEY, NSFW, TASK, StandIn, prediction

THROTTLED = (
    "Request was throttled. Your rate limit for creating predictions is reduced to 6 requests per minute with a "
    "burst of 1 requests while you have less than $5.0 in credit. Your rate limit resets in ~{}s."
)


class TestFailures(RemoteConformance):
    """The suite for all remote engines."""

    @pytest.fixture
    def service(self, vendor: StandIn) -> FakeService:
        """See RemoteConformance.service."""
        return vendor


def _invalid(detail: str) -> Handler:
    return respond(422, {"title": "Input validation failed", "detail": detail, "status": 422})


test_a_request_that_is_refused_is_not_repeated = failed_submissions(
    (_invalid("- input.width: Must be at most 1440\n"), InvalidTaskError, "refused width"),
    (_invalid("- input.refine: Must be one of …\n"), InvalidTaskError, "refused refine"),
    (_invalid("- input: No.\n"), InvalidTaskError, "No"),
    (
        respond(
            422, {"title": "Invalid version or not permitted", "detail": "None", "status": 422}
        ),
        ModelMissingError,
        "change `model`",
    ),
    (respond(404, {"detail": "Not found.", "status": 404}), EngineFailedError, "the model"),
)


@pytest.mark.parametrize(
    ("named", "field"),
    [
        ("width", "width"),
        ("num_inference_steps", "steps"),
        ("image", "init_image"),
        ("refine", "options.refine"),
    ],
)
async def test_an_invalid_input_names_the_field_of_the_task(
    vendor: StandIn, named: str, field: str
) -> None:
    """By its name in our contract; an input that is an option by that name."""
    vendor.submits.add(_invalid(f"- input.{named}: no\n"))
    with pytest.raises(InvalidTaskError) as error:
        await collect_events(vendor)
    assert error.value.field == field


@pytest.mark.parametrize("seconds", [5, 600])
@pytest.mark.parametrize("where", ["text", "number"])
async def test_the_time_to_wait_stands_in_the_body_of_a_rejection(
    vendor: StandIn, seconds: int, where: str
) -> None:
    """There is no such header: a short time is waited, a long one is told."""
    body: dict[str, object] = {"detail": THROTTLED.format(seconds), "status": 429}
    if where == "number":
        body = {"detail": "Request was throttled.", "status": 429, "retry_after": seconds}
    vendor.submits.add(respond(429, body))
    if seconds == 5:
        assert outputs(await collect_events(vendor))
        return
    with pytest.raises(EngineUnavailableError, match="throttled") as error:
        await collect_events(vendor)
    assert error.value.retry_after_seconds == seconds


async def test_content_that_the_model_refuses_is_an_error_of_its_own(vendor: StandIn) -> None:
    """The prediction fails, with a text."""
    with pytest.raises(ContentFilteredError, match="NSFW content detected"):
        await collect_events(vendor, replace(TASK, prompt=NSFW))


async def test_with_safety_off_the_model_checks_nothing(vendor: StandIn) -> None:
    """Its own input disables the check."""
    assert outputs(await collect_events(vendor, replace(TASK, prompt=NSFW), safety="off"))
    (job,) = vendor.jobs.values()
    assert job.body["disable_safety_checker"] is True


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("The input or output was flagged as sensitive. (E005)", ContentFilteredError),
        ("CUDA out of memory. Tried to allocate 20 GiB", OutOfMemoryError),
        ("Invalid input: the image is too small (E006)", InvalidTaskError),
        ("Prediction interrupted; please retry (code: PA)", EngineFailedError),
        ("", EngineFailedError),
        (None, EngineFailedError),
        ({"message": "odd"}, EngineFailedError),
    ],
)
async def test_a_prediction_that_failed_says_why(
    vendor: StandIn, text: object, error: type[EngineError]
) -> None:
    """The text is the model's own."""
    vendor.polls.add(prediction("processing"), prediction("failed", error=text))
    with pytest.raises(error, match="replicate"):
        await collect_events(vendor)


async def test_a_prediction_that_never_started_is_not_billed(vendor: StandIn) -> None:
    """So another engine may be tried."""
    vendor.polls.add(prediction("starting"), prediction("aborted"))
    with pytest.raises(EngineUnavailableError, match="does not bill it") as error:
        await collect_events(vendor)
    assert error.value.repeatable


@pytest.mark.parametrize(
    ("completed", "error"),
    [("12:00:10", JobStoppedError), ("12:05:01", EngineTimeoutError), (None, JobStoppedError)],
)
async def test_a_cancelled_prediction_was_stopped_by_its_deadline_or_by_somebody(
    vendor: StandIn, completed: str | None, error: type[EngineError]
) -> None:
    """Its dates say which; the deadline is 5 minutes."""
    times: dict[str, object] = {"created_at": "2026-04-01T12:00:00.5Z"}
    if completed is not None:
        times["completed_at"] = f"2026-04-01T{completed}Z"
    vendor.polls.add(prediction("processing"), prediction("canceled", **times))
    with pytest.raises(error):
        await collect_events(vendor, timeout_seconds=300)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"output": None}, "without an image"),
        ({"output": []}, "without an image"),
        ({"output": None, "data_removed": True}, "one hour"),
        ({"output": "a haiku"}, "something else"),
        ({"output": [3]}, "something else"),
        ({"output": {"seed": 7}}, "something else"),
    ],
    ids=range(6),
)
async def test_a_prediction_without_an_image_has_failed(
    vendor: StandIn, fields: dict[str, object], message: str
) -> None:
    """Its data may have been deleted, or the model returned something else."""
    vendor.polls.add(prediction("succeeded", **fields))
    with pytest.raises(EngineFailedError, match=message):
        await collect_events(vendor)


async def test_a_restart_after_the_outputs_were_deleted_says_so_and_pays_nothing(
    vendor: StandIn,
) -> None:
    """The prediction is still known, its image is not."""
    handle = await crash(vendor)
    vendor.polls.always = prediction("succeeded", data_removed=True)
    with pytest.raises(EngineFailedError, match="one hour"):
        await collect_events(vendor, replace(TASK, resume=handle))
    assert vendor.accepted == 1


async def test_a_prediction_that_is_still_starting_at_the_deadline_says_so(
    vendor: StandIn,
) -> None:
    """A cold start can take minutes."""
    vendor.polls.always = prediction("starting")
    with pytest.raises(EngineTimeoutError, match="raise timeout_seconds"):
        await collect_events(vendor, timeout_seconds=0.2)
    assert vendor.cancelled == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "acme/nothing"}, "no model"),
        ({"model": f"{SDXL}:{'0' * 64}"}, "no model"),
        ({"model": LLAMA}, "returns text"),
        ({"inputs": {"megapixels": "1"}}, "has no input 'megapixels'.*it has apply_watermark"),
        ({"inputs": {"refine": "always"}}, "inputs.refine must be one of no_refiner"),
        ({"inputs": {"high_noise_frac": 2}}, "must be at most 1"),
        ({"inputs": {"high_noise_frac": -1}}, "must be at least 0"),
        ({"inputs": {"refine_steps": 2.5}}, "must be a whole number"),
        ({"inputs": {"apply_watermark": "no"}}, "must be of type boolean"),
        ({"inputs": {"refine_steps": True}}, "must be of type integer"),
        ({"fields": {"prompt": "text"}}, "has no input 'text'"),
        ({"fields": {"prompt": None}}, "takes no prompt"),
        ({"fields": {"steps": "scheduler"}}, "cannot take steps"),
        ({"fields": {"steps": "refine_steps"}, "inputs": {"refine_steps": 2}}, "remove one"),
        ({"inputs": {"prompt": "a cat"}}, "takes no prompt"),
        ({"output_format": "png"}, "no input for the file format"),
        (
            {"model": SCHNELL, "output_format": "jpeg"},
            "output_format must be one of webp, jpg, png",
        ),
        ({"model": UNSEEDED, "safety": "off"}, "safety: off"),
    ],
    ids=range(18),
)
async def test_a_configuration_that_does_not_fit_the_model_is_refused_at_the_start(
    vendor: StandIn, settings: dict[str, object], message: str
) -> None:
    """Nothing is dropped in silence, and nothing is paid to find out."""
    engine = vendor.engine(**settings)
    with pytest.raises(ModelMissingError, match=message):
        await engine.start()


async def test_a_start_with_an_invalid_token_says_so(vendor: StandIn) -> None:
    """The token is in no message, though the service repeats it."""
    engine = vendor.engine(api_key="r8_wrong_token")
    with pytest.raises(EngineUnavailableError, match="check the configured key") as error:
        await engine.start()
    assert "r8_wrong_token" not in str(error.value)


async def test_a_token_in_an_invalid_input_is_masked(vendor: StandIn) -> None:
    """Whatever the service repeats."""
    vendor.submits.add(_invalid(f"- input.prompt: {KEY}\n"))
    with pytest.raises(InvalidTaskError) as error:
        await collect_events(vendor)
    assert KEY not in str(error.value)
