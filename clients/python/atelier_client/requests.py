"""Builds requests from tasks, and encodes them; no I/O."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message

from atelier.v1 import generation_pb2, task_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier_client.enums import Priority, State
from atelier_client.errors import invalid_value
from atelier_client.media import ArtifactId, HttpsUri, Media, Resolved
from atelier_client.task_types import check_type, check_types
from atelier_client.tasks import (
    RANDOM_SEED,
    AudioTask,
    Batch,
    ImageKeywords,
    ImageTask,
    Keywords,
    RequestKeywords,
)

_SHARED_FIELDS = ("prompt", "negative_prompt", "model", "steps", "guidance", "seed")
_IMAGE_FIELDS = (
    *_SHARED_FIELDS,
    *("style", "width", "height", "scheduler", "num_images", "strength", "preview_interval"),
    *("clip_skip", "aspect_ratio", "padding_mask_crop"),
)
_AUDIO_FIELDS = (
    *_SHARED_FIELDS,
    *("sample_rate", "channels", "candidates", "seamless_loop", "loudness_lufs", "high_pass_hz"),
    *("strength", "preview_interval", "continuation"),
)
_CONTROL_FIELDS = ("preprocess", "strength", "start", "end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A task, and how to run it."""

    task: ImageTask | AudioTask
    engine: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    strict: bool = False
    strict_except: Sequence[str] = ()
    request_id: str = ""
    timeout_seconds: float | None = None
    priority: Priority = Priority.UNSPECIFIED


def build_request(task: str | ImageTask | AudioTask, keywords: Keywords) -> Request:
    """A request with an id, random where the caller gives none.

    Raises:
        TypeError: a keyword is unknown, or is a field of a task that was given as such; or there is no task.
        InvalidRequestError: a value has another type than its field.
    """
    how = {name: value for name, value in keywords.items() if name in _REQUEST_KEYWORDS}
    rest = {name: value for name, value in keywords.items() if name not in _REQUEST_KEYWORDS}
    if isinstance(task, str):
        task = ImageTask(prompt=task, **cast("ImageKeywords", rest))
    elif not isinstance(task, ImageTask | AudioTask):
        raise TypeError(f"a task is a prompt, an ImageTask or an AudioTask, not {task!r}")
    elif rest:
        raise TypeError(f"set {', '.join(rest)} in the {type(task).__name__}, not as a keyword")
    check_types(task)
    check_type("priority", how.get("priority", Priority.UNSPECIFIED), Priority)
    request = cast("RequestKeywords", {**how, "request_id": how.get("request_id") or _random_id()})
    return Request(task=task, **request)


def build_batch(tasks: Batch, keywords: Keywords) -> tuple[Request, ...]:
    """A request for each task, all with the same keywords; a request id of the caller is numbered from 0.

    Raises:
        TypeError: as for one task.
    """
    given = keywords.get("request_id")
    return tuple(
        build_request(task, {**keywords, "request_id": f"{given}-{index}"} if given else keywords)
        for index, task in enumerate(tasks)
    )


def iterate_media(task: ImageTask | AudioTask) -> Iterator[tuple[str, Media]]:
    """The media of a task, each with the name of its place."""
    if isinstance(task, ImageTask):
        if task.init_image is not None:
            yield "init_image", task.init_image
        if task.mask is not None:
            yield "mask", task.mask
        for index, control in enumerate(task.controls):
            yield f"control-{index}", control.image
    elif task.init_audio is not None:
        yield "init_audio", task.init_audio


def request_to_pb(request: Request, media: Mapping[str, Resolved]) -> pb.GenerateRequest:
    """Encode the request; its media, by their places, are attached or named.

    Raises:
        InvalidRequestError: a value does not fit its field.
    """
    message = pb.GenerateRequest(inline_outputs=True)
    for name in ("request_id", "engine", "strict"):
        _set(message, name, getattr(request, name))
    _set(message, "priority", request.priority.number)
    message.strict_except.extend(request.strict_except)
    if request.timeout_seconds is not None:
        _set_seconds(message, "timeout", request.timeout_seconds)
    if request.options:
        _set_options(message, request.options)
    match request.task:
        case ImageTask() as image:
            _fill_image(message, image, media)
        case AudioTask() as audio:
            _fill_audio(message, audio, media)
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
    message: pb.GenerateRequest, task: ImageTask, media: Mapping[str, Resolved]
) -> None:
    image = message.image
    _set_all(image, task, _IMAGE_FIELDS)
    for name in ("fit", "resource_profile", "safety_mode", "format"):
        _set(image, name, getattr(task, name).number)
    places = {"init_image": image.init_image, "mask": image.mask}
    for index, control in enumerate(task.controls):
        added_control = image.controls.add()
        _set(added_control, "type", control.type.number)
        _set_all(added_control, control, _CONTROL_FIELDS)
        places[f"control-{index}"] = added_control.image
    for place, source in media.items():
        _fill_source(message, places[place], source, place)
    for lora in task.loras:
        added = image.loras.add(name=lora.name)
        _set(added, "role", lora.role.number)
        _set_all(added, lora, ("weight",))
    for embedding in task.embeddings:
        _set_all(image.embeddings.add(), embedding, ("name", "negative"))
    if task.outpaint is not None:
        image.outpaint.SetInParent()
        _set_all(image.outpaint, task.outpaint, ("left", "top", "right", "bottom"))
    if task.upscale is not None:
        _set_all(image.upscale, task.upscale, ("factor", "model"))


def _fill_source(
    message: pb.GenerateRequest, target: task_pb2.MediaSource, source: Resolved, name: str
) -> None:
    """Name the source of a place; bytes are attached under `name`."""
    match source:
        case ArtifactId(value=artifact_id):
            target.artifact_id = artifact_id
        case HttpsUri(value=uri):
            target.uri = uri
        case bytes():
            target.attachment = name
            message.attachments[name] = source


def _fill_audio(
    message: pb.GenerateRequest, task: AudioTask, media: Mapping[str, Resolved]
) -> None:
    audio = message.audio
    audio.SetInParent()
    _set_all(audio, task, _AUDIO_FIELDS)
    _set(audio, "format", task.format.number)
    for name in ("duration", "fade_in", "fade_out"):
        seconds = getattr(task, f"{name}_seconds")
        if seconds is not None:
            _set_seconds(audio, name, seconds)
    for place, source in media.items():
        _fill_source(message, audio.init_audio, source, place)


def _set_all(message: Message, source: object, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(source, name)
        if value is not None and (name, value) != ("seed", RANDOM_SEED):
            _set(message, name, value)


def _set(message: Message, name: str, value: object) -> None:
    try:
        setattr(message, name, value)
    except (ValueError, TypeError) as error:
        raise invalid_value(name, f"{value!r} does not fit") from error


def _set_seconds(message: Message, name: str, seconds: float) -> None:
    try:
        getattr(message, name).FromNanoseconds(round(seconds * 1e9))
    except (ValueError, OverflowError) as error:
        raise invalid_value(name, f"{seconds!r} seconds do not fit") from error


def _set_options(message: pb.GenerateRequest, options: Mapping[str, object]) -> None:
    try:
        ParseDict(dict(options), message.options)
    except (ParseError, TypeError, ValueError) as error:
        raise invalid_value(
            "options", "only JSON values: numbers, strings, booleans, null, lists, objects"
        ) from error


def _random_id() -> str:
    return uuid.uuid4().hex


_REQUEST_KEYWORDS = frozenset(RequestKeywords.__annotations__)
