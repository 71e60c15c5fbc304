"""A decided task is the same when it comes out of the store, in every field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from atelier_engines.media import Input
from atelier_engines.task import ImageTask, Task
from atelier_server.engines.task_codec import UnreadableTaskError, decode_task, encode_task
from tests.totality.filling import defaulted
from tests.totality.tasks import AUDIO, IMAGE
from tests.totality.test_tasks import plain

TASKS = [
    replace(IMAGE, resume="job-7"),
    replace(AUDIO, reuse=True, resume="job-8", continuation=True),
]


def inputs_of(task: Task) -> Mapping[str, Input]:
    """The images and audio of the task by the path of their field."""
    if not isinstance(task, ImageTask):
        return {} if task.init_audio is None else {"init_audio": task.init_audio}
    assert task.init_image is not None
    assert task.mask is not None
    controls = {
        f"controls[{index}].image": control.image for index, control in enumerate(task.controls)
    }
    return {"init_image": task.init_image, "mask": task.mask, **controls}


@pytest.mark.parametrize("task", TASKS, ids=["image", "audio"])
def test_every_field_of_a_task_is_stored(task: Task) -> None:
    """Each has a value that is not its default; equal after a round trip, with numbers of the same type."""
    assert list(defaulted(task)) == []
    decoded = decode_task(encode_task(task), inputs_of(task))
    assert repr(plain(decoded)) == repr(plain(task))


def test_audio_is_named_and_not_stored() -> None:
    """Likewise."""
    assert json.loads(encode_task(AUDIO))["task"]["init_audio"] == "init_audio"


def test_images_are_named_and_not_stored() -> None:
    """Their bytes are artifacts; a task names the field of the request that they come from."""
    stored = json.loads(encode_task(IMAGE))["task"]
    assert (stored["init_image"], stored["mask"]) == ("init_image", "mask")
    assert [control["image"] for control in stored["controls"]] == [
        f"controls[{index}].image" for index in range(len(IMAGE.controls))
    ]


def test_fields_that_an_older_version_did_not_know_have_their_defaults() -> None:
    """A generation may wait in the queue while the server is updated."""
    spoken = replace(AUDIO, init_audio=None)
    envelope = json.loads(encode_task(spoken))
    del envelope["task"]["candidates"]
    assert decode_task(json.dumps(envelope).encode(), {}) == replace(spoken, candidates=1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"version":2,"kind":"image","task":{}}',
        b'{"version":1,"kind":"video","task":{}}',
        b'{"version":1,"kind":"audio","task":{}}',
        encode_task(AUDIO).replace(b'"candidates"', b'"judges"'),
        encode_task(IMAGE),
    ],
)
def test_what_cannot_be_read_is_an_error_of_its_own(data: bytes) -> None:
    """Other versions, other kinds, missing images: never a task that differs from the receipt."""
    with pytest.raises(UnreadableTaskError):
        decode_task(data, {})
