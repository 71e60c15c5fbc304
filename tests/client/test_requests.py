"""Every field of a task is part of the request."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest
from google.protobuf.json_format import MessageToDict

from atelier.v1 import engine_pb2, generation_pb2, task_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier_client import (
    Artifact,
    AsyncClient,
    AudioFormat,
    AudioTask,
    Client,
    Control,
    ControlType,
    Embedding,
    FitMode,
    ImageFormat,
    ImageTask,
    Lora,
    LoraRole,
    Outpaint,
    Priority,
    ResourceProfile,
    SafetyMode,
    Upscale,
    enums,
    errors,
    media,
)
from atelier_client.requests import build_request, iterate_media, request_to_pb
from atelier_client.tasks import ImageKeywords, Keywords

PNG = b"\x89PNG\r\n\x1a\n"
STORED = Artifact(id="a1", media_type="image/png", size=8, sha256="")
EVERYTHING = ImageTask(
    prompt="a lamp",
    negative_prompt="dark",
    style="noir",
    model="base",
    width=64,
    height=32,
    steps=4,
    guidance=1.5,
    seed=7,
    scheduler="euler",
    num_images=2,
    init_image=PNG,
    strength=0.5,
    mask=STORED,
    controls=(
        Control(
            type=ControlType.DEPTH,
            image="https://example.org/depth.png",
            preprocess=True,
            strength=0.5,
            start=0.25,
            end=0.75,
        ),
    ),
    loras=(Lora(name="ink", weight=0.5, role=LoraRole.STYLE),),
    fit=FitMode.CONTAIN,
    resource_profile=ResourceProfile.MEMORY,
    safety_mode=SafetyMode.FLAG,
    format=ImageFormat.WEBP,
    preview_interval=2,
    clip_skip=2,
    aspect_ratio="2:1",
    padding_mask_crop=32,
    outpaint=Outpaint(left=1, top=2, right=3, bottom=4),
    upscale=Upscale(factor=2.0, model="big"),
    embeddings=(Embedding(name="ugly", negative=True),),
)
AUDIO = AudioTask(
    prompt="rain",
    negative_prompt="wind",
    duration_seconds=1.5,
    steps=4,
    guidance=2.0,
    seed=9,
    sample_rate=44100,
    channels=2,
    candidates=3,
    seamless_loop=True,
    loudness_lufs=-16.0,
    model="base",
    format=AudioFormat.OGG,
    high_pass_hz=40.0,
    fade_in_seconds=0.1,
    fade_out_seconds=0.2,
    init_audio=b"RIFF",
    strength=0.5,
    preview_interval=2,
    continuation=True,
)


def build(task: str | ImageTask | AudioTask, **keywords: object) -> pb.GenerateRequest:
    """The request on the wire."""
    given: Keywords = keywords  # type: ignore[assignment]  # keywords by name
    request = build_request(task, given)
    sources = {place: media.resolve(source) for place, source in iterate_media(request.task)}
    return request_to_pb(request, sources)


def test_every_field_of_an_image_task_reaches_the_wire() -> None:
    """A field of the contract that the client lacks fails here."""
    image = build(EVERYTHING).image
    assert {name.name for name, _ in image.ListFields()} == {
        field.name for field in task_pb2.ImageTask.DESCRIPTOR.fields
    }
    assert image.controls[0].ListFields()[-1][0].name == "end"
    assert len(image.controls[0].ListFields()) == len(task_pb2.Control.DESCRIPTOR.fields)
    assert len(image.loras[0].ListFields()) == len(task_pb2.Lora.DESCRIPTOR.fields)
    assert len(image.embeddings[0].ListFields()) == len(task_pb2.Embedding.DESCRIPTOR.fields)
    assert len(image.upscale.ListFields()) == len(task_pb2.Upscale.DESCRIPTOR.fields)
    assert (image.width, image.height, image.seed, image.num_images) == (64, 32, 7, 2)


def test_every_field_of_an_audio_task_reaches_the_wire() -> None:
    """A field of the contract that the client lacks fails here."""
    audio = build(AUDIO).audio
    assert {name.name for name, _ in audio.ListFields()} == {
        field.name for field in task_pb2.AudioTask.DESCRIPTOR.fields
    }
    assert audio.duration.ToMilliseconds() == 1500


def test_every_way_to_run_reaches_the_wire() -> None:
    """Engine, options, strictness, id and time limit."""
    request = build(
        "a lamp",
        engine="tiny",
        options={"mood": {"dark": True}, "levels": [1, 2]},
        strict=True,
        request_id="r1",
        timeout_seconds=2.5,
        priority=Priority.BATCH,
    )
    assert (request.engine, request.strict, request.request_id) == ("tiny", True, "r1")
    assert request.priority == generation_pb2.PRIORITY_BATCH
    assert MessageToDict(request.options) == {"mood": {"dark": True}, "levels": [1, 2]}
    assert request.timeout.ToMilliseconds() == 2500
    assert request.inline_outputs


def test_unset_fields_are_not_sent() -> None:
    """The engine chooses its defaults."""
    image = build("a lamp").image
    assert [field.name for field, _ in image.ListFields()] == ["prompt"]


def test_zero_is_sent() -> None:
    """Zero differs from unset."""
    image = build("a lamp", seed=0, guidance=0.0, strength=0.0, preview_interval=0).image
    assert all(image.HasField(name) for name in ("seed", "guidance", "strength"))
    assert image.HasField("preview_interval")


def test_an_audio_task_of_defaults_is_an_audio_task() -> None:
    """Even with a prompt alone."""
    assert build(AudioTask(prompt="")).WhichOneof("task") == "audio"


def test_media_are_attached_or_named() -> None:
    """Bytes are attached; artifacts and URIs are named."""
    request = build(EVERYTHING)
    assert request.image.init_image.attachment == "init_image"
    assert dict(request.attachments) == {"init_image": PNG}
    assert request.image.mask.artifact_id == "a1"
    assert request.image.controls[0].image.uri == "https://example.org/depth.png"
    assert build("x", init_image="a2").image.init_image.artifact_id == "a2"


def test_each_request_has_a_random_id() -> None:
    """So that a repeated call is one generation, and two calls are two."""
    ids = {build("a lamp").request_id for _ in range(3)}
    assert len(ids) == 3
    assert "" not in ids


@pytest.mark.parametrize(
    ("keywords", "name"),
    [
        ({"width": -1}, "width"),
        ({"width": "wide"}, "width"),
        ({"seed": 2**65}, "seed"),
        ({"engine": 5}, "engine"),
        ({"options": {"x": object()}}, "options"),
        ({"timeout_seconds": float("inf")}, "timeout"),
        ({"priority": "batch"}, "priority"),
        ({"timeout_seconds": float("nan")}, "timeout"),
    ],
)
def test_a_value_that_fits_no_field_is_a_bad_request(
    keywords: dict[str, object], name: str
) -> None:
    """Rejected before anything is sent; the error names the field."""
    with pytest.raises(errors.InvalidRequestError, match=name):
        build("a lamp", **keywords)


def test_an_unknown_keyword_is_a_type_error() -> None:
    """As in any call."""
    with pytest.raises(TypeError, match="wdith"):
        build("a lamp", wdith=3)


def test_a_task_is_not_contradicted_from_outside() -> None:
    """The fields of a task object are set in it alone."""
    with pytest.raises(TypeError, match="width"):
        build(ImageTask(prompt="a lamp"), width=3)


def test_the_keywords_are_the_fields() -> None:
    """Every field of an ImageTask is a keyword of the same type."""
    task = {field.name: field.type for field in fields(ImageTask) if field.name != "prompt"}
    keywords = {name: kind.__forward_arg__ for name, kind in ImageKeywords.__annotations__.items()}
    assert keywords == task


def test_both_clients_offer_the_same() -> None:
    """The same methods, parameters and docstrings."""
    for name, method in inspect.getmembers(AsyncClient, inspect.isfunction):
        if name.startswith("_"):
            continue
        twin = getattr(Client, name)
        assert inspect.signature(method).parameters == inspect.signature(twin).parameters, name
        assert inspect.getdoc(method) == inspect.getdoc(twin), name


@pytest.mark.parametrize(
    "word",
    [
        kind
        for kind in vars(enums).values()
        if inspect.isclass(kind) and kind.__mro__[1] is enums.ProtoEnum
    ],
    ids=lambda kind: kind.__name__,
)
def test_every_enumeration_member_has_its_number(word: type[enums.ProtoEnum]) -> None:
    """The members are those of the contract, in its order."""
    homes = (generation_pb2, engine_pb2, task_pb2, pb)
    wire = next(getattr(home, word.__name__) for home in homes if hasattr(home, word.__name__))
    prefix = wire.DESCRIPTOR.values_by_number[0].name.removesuffix("UNSPECIFIED")
    assert [prefix + member.name for member in word] == list(wire.keys())
    assert word.from_number(99) is word.from_number(0)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("format", "png", "'png' is no ImageFormat: give one of ImageFormat.PNG"),
        ("fit", ImageFormat.PNG, "is no FitMode"),
        ("loras", ["ink"], "'ink' is no Lora"),
        ("loras", "ink", "'ink' is no tuple"),
        ("controls", [1], "1 is no Control"),
        ("embeddings", None, "None is no tuple"),
        ("upscale", 2, "2 is no Upscale"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(name: str, value: object, told: str) -> None:
    """Where no type checker did; also a member of another enumeration."""
    with pytest.raises(errors.InvalidRequestError, match=told) as refused:
        build("a lamp", **{name: value})
    assert [violation.field for violation in refused.value.violations] == [name]


def test_enumerations_inside_are_refused_by_name() -> None:
    """And that of audio."""
    with pytest.raises(errors.InvalidRequestError, match=r"loras\.role: 'style' is no LoraRole"):
        build("a lamp", loras=[Lora(name="ink", role="style")])  # type: ignore[arg-type]  # on purpose
    with pytest.raises(errors.InvalidRequestError, match="'wav' is no AudioFormat"):
        build(AudioTask(prompt="rain", format="wav"))  # type: ignore[arg-type]  # on purpose
