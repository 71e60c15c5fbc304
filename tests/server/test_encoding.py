"""Files of images: exact where they can be, in every format, and saying how they were made."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import zlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
from grpc import aio
from numpy.typing import NDArray
from PIL import ExifTags, Image

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1 import task_pb2
from atelier.v1.generation_pb2 import Recipe, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import MediaSource
from atelier_client.media import detect_media_type
from atelier_engines.media import Encoded, Pixels, Samples
from atelier_engines.task import (
    Control,
    ControlType,
    ImageTask,
    Lora,
    Upscale,
)
from atelier_server.artifacts.encode import Encoder, encode_png
from atelier_server.artifacts.metadata import NAMESPACE
from atelier_server.artifacts.provenance import Provenance, StyleName, build_provenance
from tests.conftest import StartServer
from tests.server.calls import Stub, image_request

Bytes = NDArray[np.uint8]

FORMATS = {
    "PNG": task_pb2.IMAGE_FORMAT_PNG,
    "WEBP": task_pb2.IMAGE_FORMAT_WEBP,
    "JPEG": task_pb2.IMAGE_FORMAT_JPEG,
    "AVIF": task_pb2.IMAGE_FORMAT_AVIF,
}
LOSSY = {"WEBP": 2.4, "JPEG": 1.8, "AVIF": 1.8}  # with the mean error, of 255, that grain leaves
HERE = Provenance(parameters="a lamp\nSteps: 4", record='{"prompt":"a lamp"}')
LONG = ("灯台とかもめ, el niño, маяк, " * 500)[:8000]
ODD = 'a \0 b \x7f \x85 \ufffe <c> & "d" ]]> \r\n e \u2028 🌊'


def noise(height: int, width: int, channels: int, seed: int = 0) -> Bytes:
    """An image that no filter helps."""
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def slope(height: int, width: int, channels: int) -> Bytes:
    """An image that changes from left to right, and wraps round."""
    row = (np.arange(width) * 5 % 256).astype(np.uint8)
    return np.broadcast_to(row[None, :, None], (height, width, channels))


def blobs(size: int) -> Bytes:
    """A smooth image with a few edges and a little grain, as photos are."""
    y, x = np.mgrid[:size, :size] / size
    waves = [np.sin(7 * x + k) * np.cos(5 * y - k) + (x + y * k > 0.8) for k in range(3)]
    grain = np.random.default_rng(1).normal(0, 1.5, (size, size, 3))
    return (np.stack(waves, axis=2) * 50 + 110 + grain).clip(0, 255).astype(np.uint8)


def parameters_in(data: bytes) -> str | None:
    """What a tool of Stable Diffusion would read."""
    with Image.open(io.BytesIO(data)) as image:
        if image.format == "PNG":
            return image.info.get("parameters")
        comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    if comment is None:
        return None
    assert comment.startswith(b"UNICODE\0")
    return bytes(comment[8:]).decode("utf-16-be")


def record_in(data: bytes) -> dict[str, object] | None:
    """What a program would read."""
    with Image.open(io.BytesIO(data)) as image:
        if image.format == "PNG":
            text = image.info.get("atelier")
        else:
            packet = image.info.get("xmp")
            text = packet and ET.fromstring(packet).findtext(f".//{{{NAMESPACE}}}record")  # noqa: S314 (written by the code under test)
    return json.loads(text) if text else None


@pytest.fixture
async def encoder() -> AsyncIterator[Encoder]:
    """One that writes metadata."""
    made = Encoder(metadata=True)
    yield made
    made.close()


def asked(form: str | None) -> pb.GenerateRequest:
    """A request for that format."""
    return image_request(task={} if form is None else {"format": FORMATS[form]})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (5, 2), (64, 64), (131, 67)])
def test_a_png_is_exact_for_every_reader(size: tuple[int, int], channels: int) -> None:
    """Pillow, which checks every checksum, and OpenCV read the pixels that were written."""
    for array in (
        noise(*size, channels),
        slope(*size, channels),
        slope(*size[::-1], channels).transpose(1, 0, 2),
        np.full((*size, channels), 255, np.uint8),
        noise(2 * size[0], size[1], channels)[::-2],
    ):
        data = encode_png(Pixels(array=array), {"parameters": "été 灯台", "atelier": "{}"})
        with Image.open(io.BytesIO(data)) as image:
            image.verify()
        with Image.open(io.BytesIO(data)) as image:
            assert image.mode == ("L" if channels == 1 else "RGB")
            assert image.info == {"srgb": 0, "parameters": "été 灯台", "atelier": "{}"}
            assert np.array_equal(np.asarray(image).reshape(array.shape), array)
        read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert read is not None
        assert np.array_equal(read.reshape(array.shape)[:, :, ::-1], array)


def test_each_row_of_a_png_has_the_filter_that_suits_it() -> None:
    """What changes from left to right is told from above, what changes downwards from the left."""
    both = np.concatenate([slope(40, 60, 3), slope(60, 40, 3).transpose(1, 0, 2)])
    data = encode_png(Pixels(array=both), {})
    start = data.index(b"IDAT") + 4
    stream = zlib.decompress(data[start : data.index(b"IEND") - 8])
    filters = np.frombuffer(stream, np.uint8).reshape(80, 181)[:, 0]
    assert filters[1:40].tolist() == [2] * 39
    assert filters[41:].tolist() == [1] * 39


@pytest.mark.parametrize("make", [blobs, lambda size: noise(size, size, 3)])
def test_a_png_is_no_larger_than_a_quick_one_of_pillow(make: object) -> None:
    """Than at its fastest compression, give or take a twentieth."""
    assert callable(make)
    array = make(256)
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", compress_level=1)
    assert len(encode_png(Pixels(array=array), {})) < 1.05 * len(file.getvalue())


@pytest.mark.parametrize("form", LOSSY)
async def test_lossy_images_look_the_same(encoder: Encoder, form: str) -> None:
    """But for grain; colour is as sharp as light where the format can do that."""
    array = blobs(96)
    made = await encoder.encode(Pixels(array=array), asked(form), lambda: None)
    with Image.open(io.BytesIO(made.data)) as image:
        assert (image.format, image.size) == (form, (96, 96))
        read = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(read - array).mean() < LOSSY[form]
    assert (made.media_type, made.width, made.height) == (f"image/{form.lower()}", 96, 96)
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    drawn = await encoder.encode(Pixels(array=stripes), asked(form), lambda: None)
    with Image.open(io.BytesIO(drawn.data)) as image:
        error = np.abs(np.asarray(image.convert("RGB")).astype(int) - stripes).mean()
    assert bool(error < 10) is (form != "WEBP")


@pytest.mark.parametrize("form", FORMATS)
async def test_grey_images_stay_grey(encoder: Encoder, form: str) -> None:
    """One channel goes in, and what comes out has no colour."""
    grey = blobs(48)[:, :, :1]
    made = await encoder.encode(Pixels(array=grey), asked(form), lambda: HERE)
    with Image.open(io.BytesIO(made.data)) as image:
        read = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(read - grey).max() <= (0 if form == "PNG" else 24)
    assert np.ptp(read, axis=2).max() <= 2
    assert parameters_in(made.data) == HERE.parameters


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("words", ["a lamp", LONG, ODD], ids=["short", "long", "odd"])
async def test_files_say_how_they_were_made(encoder: Encoder, form: str, words: str) -> None:
    """Word for word in any script; two prompts of 8,000 characters fit, and no character breaks anything."""
    task = ImageTask(prompt=words, negative_prompt=words, width=16, height=16, seeds=(5,))
    known = build_provenance("tiny", Recipe(), task, 5)
    assert known is not None
    made = await encoder.encode(Pixels(array=blobs(16)), asked(form), lambda: known)
    record = record_in(made.data)
    assert record is not None
    assert (record["prompt"], record["negative_prompt"]) == (words, words)
    heard = known.parameters.replace("\0", "") if form == "PNG" else known.parameters
    assert parameters_in(made.data) == heard


@pytest.mark.parametrize("form", FORMATS)
async def test_the_longest_prompts_of_all_break_no_file(encoder: Encoder, form: str) -> None:
    """A JPEG has no room for 16,384 emoji and leaves them out; the others have."""
    words = "🌊" * 8192
    task = ImageTask(prompt=words, negative_prompt=words, width=16, height=16, seeds=(5,))
    known = build_provenance("tiny", Recipe(), task, 5)
    assert known is not None
    made = await encoder.encode(Pixels(array=blobs(16)), asked(form), lambda: known)
    there = None if form == "JPEG" else known.parameters
    assert parameters_in(made.data) == there
    assert (record_in(made.data) is None) is (form == "JPEG")
    with Image.open(io.BytesIO(made.data)) as image:
        assert image.convert("RGB").size == (16, 16)


def test_parameters_are_written_as_other_tools_write_them() -> None:
    """Words with their LoRAs, words to avoid, and one line of settings; the record has them by name."""
    task = ImageTask(
        prompt="a lamp,\non a desk",
        negative_prompt="dust",
        width=512,
        height=768,
        seeds=(7, 8),
        steps=4,
        guidance=0.0,
        scheduler="euler_a",
        init_image=Pixels(array=blobs(8)),
        strength=float(np.float32(0.6)),
        mask=Pixels(array=blobs(8)[:, :, :1]),
        controls=(Control(type=ControlType.DEPTH, image=Pixels(array=blobs(8)), end=0.5),),
        loras=(Lora(name="oil", weight=0.85), Lora(name="mist", weight=1.0)),
        upscale=Upscale(factor=2.0, model="sharp"),
        options={"token": "hush"},
        resume="handle",
    )
    recipe = Recipe(
        engine_type="diffusion",
        model="mine: v2",
        weights_digest="0123456789abcdef",
        seeds=[7, 8],
        versions={"torch": "2", "diffusers": "0"},
    )
    style = StyleName(id="noir", title="Film Noir!")
    known = build_provenance("tiny", recipe, task, 8, style)
    assert known is not None
    assert known.parameters == (
        "a lamp,\non a desk <lora:oil:0.85> <lora:mist:1>\n"
        "Negative prompt: dust\n"
        "Steps: 4, Sampler: euler_a, CFG scale: 0, Seed: 8, Size: 512x768, Model hash: 0123456789, "
        'Model: "mine: v2", Denoising strength: 0.6, Engine: tiny'
    )
    assert json.loads(known.record) == {
        "engine": "tiny",
        "prompt": "a lamp,\non a desk",
        "negative_prompt": "dust",
        "seed": 8,
        "width": 512,
        "height": 768,
        "style_id": "noir",
        "style_title": "Film Noir!",
        "steps": 4,
        "guidance": 0,
        "scheduler": "euler_a",
        "loras": [{"name": "oil", "weight": 0.85}, {"name": "mist", "weight": 1}],
        "strength": 0.6,
        "masked": True,
        "controls": [{"type": "depth", "preprocess": False, "strength": 1, "start": 0, "end": 0.5}],
        "upscale": {"factor": 2, "model": "sharp"},
        "engine_type": "diffusion",
        "model": "mine: v2",
        "weights_digest": "0123456789abcdef",
        "versions": {"diffusers": "0", "torch": "2"},
    }


async def test_a_vendors_file_is_passed_on_byte_for_byte(encoder: Encoder) -> None:
    """In the format asked for or with none asked for: it may be signed. What we make anew, we label."""
    file = io.BytesIO()
    Image.fromarray(blobs(16)).save(file, "JPEG", comment="signed by its maker")
    media = Encoded(media_type="image/jpeg", data=file.getvalue(), width=16, height=16)
    for form in (None, "JPEG"):
        assert await encoder.encode(media, asked(form), lambda: HERE) is media
    made = await encoder.encode(media, asked("PNG"), lambda: HERE)
    assert parameters_in(made.data) == HERE.parameters
    assert (made.media_type, made.width, made.height) == ("image/png", 16, 16)


async def test_encoding_waits_for_no_thread_of_others(encoder: Encoder) -> None:
    """All threads that asyncio lends are busy, and images and audio are still made."""
    free = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = loop.run_in_executor(None, free.wait)
    try:
        for form in FORMATS:
            assert (await encoder.encode(Pixels(array=blobs(16)), asked(form), lambda: HERE)).data
        silence = Samples(array=np.zeros((8, 1), np.float32), sample_rate=8000)
        assert (await encoder.encode(silence, pb.GenerateRequest(), lambda: None)).data
    finally:
        free.set()
        await busy


@pytest.mark.parametrize("form", FORMATS)
async def test_what_was_made_says_so_and_can_be_started_from(stub: Stub, form: str) -> None:
    """By artifact and sent along; equal tasks have equal files, whatever their ids."""
    task = {"seed": 3, "num_images": 2, "format": FORMATS[form]}
    first, again = [
        (await stub.Generate(image_request(LONG, task=task, inline_outputs=True))).generation
        for _ in range(2)
    ]
    assert [output.data for output in first.outputs] == [output.data for output in again.outputs]
    for output in first.outputs:
        record = record_in(output.data)
        assert record is not None
        assert (record["prompt"], record["seed"], record["engine"]) == (LONG, output.seed, "sketch")
        assert f"Seed: {output.seed}, Size: 64x64" in str(parameters_in(output.data))
    made = first.outputs[0]
    assert detect_media_type(made.data) == f"image/{form.lower()}"
    for source in (MediaSource(artifact_id=made.artifact.id), MediaSource(attachment="a")):
        request = image_request(task={"init_image": source, "strength": 0.0}, inline_outputs=True)
        request.attachments["a"] = made.data
        generation = (await stub.Generate(request)).generation
        assert generation.state == State.STATE_SUCCEEDED
        kept = generation.image.init_image.artifact_id
        parts = stub.DownloadArtifact(pb.DownloadArtifactRequest(artifact_id=kept))
        (header, *_) = [part async for part in parts]
        assert header.artifact.media_type == f"image/{form.lower()}"
        with Image.open(io.BytesIO(generation.outputs[0].data)) as image:
            drawn = np.asarray(image)
        with Image.open(io.BytesIO(made.data)) as image:
            assert np.array_equal(drawn, np.asarray(image.convert("RGB")))


async def test_metadata_can_be_left_out(start_server: StartServer) -> None:
    """By the configuration; the image is the same."""
    server = start_server(outputs={"metadata": False})
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        for form, number in FORMATS.items():
            request = image_request(task={"format": number}, inline_outputs=True)
            data = (await stub.Generate(request)).generation.outputs[0].data
            assert (parameters_in(data), record_in(data)) == (None, None), form
            assert b"lighthouse" not in data
