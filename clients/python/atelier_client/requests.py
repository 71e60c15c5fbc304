"""Builds requests from tasks, and encodes them; no I/O but reading small files."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from atelier.v1 import generation_pb2, task_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier_client import media
from atelier_client.enums import State
from atelier_client.errors import InvalidRequestError, Violation
from atelier_client.media import Artifact, LocalMedia, Media
from atelier_client.tasks import (
    AudioTask,
    Control,
    ImageKeywords,
    ImageTask,
    Keywords,
    RequestKeywords,
)

_MAX_ATTACHED_BYTES = 2**20
"""Media of a task up to this size in total are attached; larger ones are uploaded first."""
_SHARED_FIELDS = ("prompt", "negative_prompt", "model", "steps", "guidance", "seed")
_IMAGE_FIELDS = (
    *_SHARED_FIELDS,
    *("style", "width", "height", "scheduler", "num_images", "strength", "preview_interval"),
)
_AUDIO_FIELDS = (
    *_SHARED_FIELDS,
    *("sample_rate", "channels", "candidates", "seamless_loop", "loudness_lufs"),
)
_CONTROL_FIELDS = ("preprocess", "strength", "start", "end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A task, and how to run it."""

    task: ImageTask | AudioTask
    engine: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    strict: bool = False
    request_id: str = ""
    timeout_seconds: float | None = None


def build_request(task: str | ImageTask | AudioTask, keywords: Keywords) -> Request:
    """A request with an id, random where the caller gives none.

    Raises:
        TypeError: a keyword is unknown, or is a field of a task that was given as such.
    """
    how = {name: value for name, value in keywords.items() if name in _REQUEST_KEYWORDS}
    rest = {name: value for name, value in keywords.items() if name not in _REQUEST_KEYWORDS}
    if isinstance(task, str):
        task = ImageTask(prompt=task, **cast("ImageKeywords", rest))
    elif rest:
        raise TypeError(f"set {', '.join(rest)} in the {type(task).__name__}, not as a keyword")
    request = cast("RequestKeywords", {**how, "request_id": how.get("request_id") or _random_id()})
    return Request(task=task, **request)


def select_uploads(request: Request) -> tuple[LocalMedia, ...]:
    """The media of a task to upload first; empty when all are small enough to attach.

    Raises:
        InvalidRequestError: a file cannot be read.
    """
    local = tuple(item for item in _iterate_media(request.task) if isinstance(item, LocalMedia))
    return local if sum(map(media.size, local)) > _MAX_ATTACHED_BYTES else ()


def request_to_pb(request: Request, uploaded: Mapping[LocalMedia, Artifact]) -> pb.GenerateRequest:
    """Encode the request; its media are attached or named.

    Raises:
        InvalidRequestError: a value does not fit its field, or a file cannot be read.
    """
    message = pb.GenerateRequest(inline_outputs=True)
    for name in ("request_id", "engine", "strict"):
        _set(message, name, getattr(request, name))
    if request.timeout_seconds is not None:
        _set_seconds(message, "timeout", request.timeout_seconds)
    if request.options:
        _set_options(message, request.options)
    match request.task:
        case ImageTask() as image:
            _fill_image(message, image, uploaded)
        case AudioTask() as audio:
            _fill_audio(message.audio, audio)
    return message


def respond_on_acceptance(message: pb.GenerateRequest) -> pb.GenerateRequest:
    """Let the server answer the request as soon as it is accepted."""
    message.response_mode = pb.RESPONSE_MODE_ON_ACCEPTANCE
    return message


def list_request_to_pb(
    *, engine: str, states: tuple[State, ...], page_size: int, page_token: str
) -> pb.ListGenerationsRequest:
    """Encode the request for one page of generations."""
    message = pb.ListGenerationsRequest()
    for name, value in (("page_size", page_size), ("page_token", page_token), ("engine", engine)):
        _set(message, name, value)
    message.states.extend(generation_pb2.State.Value(f"STATE_{state.name}") for state in states)
    return message


def _fill_image(
    message: pb.GenerateRequest, task: ImageTask, uploaded: Mapping[LocalMedia, Artifact]
) -> None:
    attachments = _Attachments(message, uploaded)
    image = message.image
    _set_all(image, task, _IMAGE_FIELDS)
    for name in ("resource_profile", "safety_mode", "format"):
        _set(image, name, getattr(task, name).number)
    if task.init_image is not None:
        attachments.add(image.init_image, task.init_image, "init_image")
    if task.mask is not None:
        attachments.add(image.mask, task.mask, "mask")
    for index, control in enumerate(task.controls):
        _fill_control(image.controls.add(), control, attachments, f"control-{index}")
    for lora in task.loras:
        added = image.loras.add(name=lora.name)
        _set(added, "role", lora.role.number)
        _set_all(added, lora, ("weight",))
    if task.upscale is not None:
        _set_all(image.upscale, task.upscale, ("factor", "model"))


def _fill_control(
    message: task_pb2.Control, control: Control, attachments: _Attachments, name: str
) -> None:
    _set(message, "type", control.type.number)
    _set_all(message, control, _CONTROL_FIELDS)
    attachments.add(message.image, control.image, name)


def _fill_audio(audio: task_pb2.AudioTask, task: AudioTask) -> None:
    audio.SetInParent()
    _set_all(audio, task, _AUDIO_FIELDS)
    _set(audio, "format", task.format.number)
    if task.duration_seconds is not None:
        _set_seconds(audio, "duration", task.duration_seconds)


class _Attachments:
    """Adds media to one request: by artifact id, by URI, or as an attachment."""

    def __init__(
        self, message: pb.GenerateRequest, uploaded: Mapping[LocalMedia, Artifact]
    ) -> None:
        self._attachments = message.attachments
        self._uploaded = uploaded

    def add(self, target: task_pb2.MediaSource, source: Media, name: str) -> None:
        """Set the place of `source` in `target`; a local file is attached under `name`."""
        if isinstance(source, LocalMedia) and source in self._uploaded:
            source = self._uploaded[source]
        match source:
            case Artifact():
                target.artifact_id = source.id
            case str() if "://" in source:
                target.uri = source
            case str():
                target.artifact_id = source
            case _:
                target.attachment = name
                self._attachments[name] = media.read(source)


def _iterate_media(task: ImageTask | AudioTask) -> Iterator[Media]:
    if isinstance(task, ImageTask):
        yield from (item for item in (task.init_image, task.mask) if item is not None)
        yield from (control.image for control in task.controls)


def _set_all(message: Message, source: object, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(source, name)
        if value is not None:
            _set(message, name, value)


def _set(message: Message, name: str, value: object) -> None:
    try:
        setattr(message, name, value)
    except (ValueError, TypeError) as error:
        raise _invalid_value(name, f"{value!r} does not fit") from error


def _set_seconds(message: Message, name: str, seconds: float) -> None:
    try:
        getattr(message, name).FromNanoseconds(round(seconds * 1e9))
    except (ValueError, OverflowError) as error:
        raise _invalid_value(name, f"{seconds!r} seconds do not fit") from error


def _set_options(message: pb.GenerateRequest, options: Mapping[str, object]) -> None:
    try:
        ParseDict(dict(options), message.options)
    except (ParseError, TypeError, ValueError) as error:
        raise _invalid_value(
            "options", "only JSON values: numbers, strings, booleans, null, lists, objects"
        ) from error


def _invalid_value(name: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{name}: {message}", violations=(Violation(field=name, message=message),)
    )


def _random_id() -> str:
    return uuid.uuid4().hex


_REQUEST_KEYWORDS = frozenset(RequestKeywords.__annotations__)
