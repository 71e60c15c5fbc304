"""How tasks and errors are put into the other server's words, and taken from them."""

from __future__ import annotations

import pytest
from google.protobuf.json_format import MessageToDict

from atelier_client import errors as theirs
from atelier_client import requests
from atelier_engines.conformance.tasks import random_image
from atelier_engines.errors import EngineError, InvalidTaskError
from atelier_engines.forwarding import errors
from atelier_engines.forwarding.requests import request_from_task
from atelier_engines.task import (
    Control,
    ControlType,
    ImageTask,
    Lora,
    ResourceProfile,
    SafetyMode,
    Upscale,
)
from atelier_server.errors import CODES

EVERYTHING = ImageTask(
    prompt="a lamp",
    negative_prompt="fog",
    width=64,
    height=48,
    seeds=(2**63 - 1, 0),
    steps=9,
    guidance=3.5,
    model="m",
    scheduler="euler",
    init_image=random_image(40, 24, 1),
    strength=0.25,
    mask=random_image(40, 24, 3),
    controls=(
        Control(
            type=ControlType.DEPTH,
            image=random_image(32, 32, 2),
            preprocess=True,
            strength=0.5,
            start=0.125,
            end=0.75,
        ),
    ),
    loras=(Lora(name="ink", weight=-0.5),),
    upscale=Upscale(factor=2.0, model="x2"),
    resource_profile=ResourceProfile.MEMORY,
    safety_mode=SafetyMode.FLAG,
    preview_interval=3,
)

SAID = {
    "prompt": "a lamp",
    "negativePrompt": "fog",
    "model": "m",
    "width": 64,
    "height": 48,
    "steps": 9,
    "guidance": 3.5,
    "seed": str(2**63 - 1),
    "scheduler": "euler",
    "num_images": 2,
    "strength": 0.25,
    "loras": [{"name": "ink", "weight": -0.5}],
    "upscale": {"factor": 2.0, "model": "x2"},
    "resource_profile": "RESOURCE_PROFILE_MEMORY",
    "safety_mode": "SAFETY_MODE_FLAG",
    "format": "IMAGE_FORMAT_PNG",
    "previewInterval": 3,
}


def test_everything_of_a_picture_is_said() -> None:
    """In the contract's words, with pictures as PNG files."""
    asked = requests.request_from(request_from_task(EVERYTHING, seeded=True), {})
    image = requests.generate_request(asked, {}).image
    said = MessageToDict(image)
    for name in ("initImage", "mask"):
        assert said.pop(name)
    (steered,) = said.pop("controls")
    assert steered.pop("image")
    assert steered == {
        "type": "CONTROL_TYPE_DEPTH",
        "preprocess": True,
        "strength": 0.5,
        "start": 0.125,
        "end": 0.75,
    }
    assert said == SAID


def test_every_reason_of_the_contract_has_its_error() -> None:
    """A new reason fails here, not in production."""
    assert set(errors.REASONS) == set(CODES)


@pytest.mark.parametrize("reason", sorted(CODES))
def test_the_error_of_a_reason_keeps_the_text(reason: str) -> None:
    """And says whose text it is."""
    error = errors.refused(theirs.AtelierError("make it smaller", reason=reason))
    assert isinstance(error, EngineError)
    assert "make it smaller" in str(error)


def test_a_wrong_field_is_blamed_by_its_name_in_the_task() -> None:
    """Without the kind of task before it."""
    violation = theirs.Violation(field="image.controls[0].strength", message="too much")
    error = errors.refused(theirs.InvalidRequestError("no", violations=(violation,)))
    assert isinstance(error, InvalidTaskError)
    assert error.field == "controls[0].strength"


def test_silence_about_accepted_work_is_no_leave_to_do_it_again() -> None:
    """Neither here nor on another engine."""
    error = errors.under_way(theirs.ServerUnreachableError("gone"))
    assert not error.repeatable
