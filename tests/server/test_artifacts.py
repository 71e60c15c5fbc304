"""Artifacts: up and down in chunks, and into tasks; nothing broken gets in, and nothing half stays."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import random
import struct
import zlib
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote_from_bytes

import grpc
import pytest
from grpc import aio
from PIL import Image

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.artifact_pb2 import Artifact, UploadHeader
from atelier.v1.generation_pb2 import State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import MediaSource
from tests.conftest import RunningServer, StartServer
from tests.server.calls import Stub, eventually, image_request, refusal, stored_blobs

CHUNK = 512 * 2**10


def png(color: str = "red", size: tuple[int, int] = (48, 40), mode: str = "RGB") -> bytes:
    """A small image."""
    file = io.BytesIO()
    Image.new(mode, size, color).save(file, "PNG")
    return file.getvalue()


def parts(header: UploadHeader | None, data: bytes = b"") -> Iterator[pb.UploadArtifactRequest]:
    """The messages of an upload."""
    if header is not None:
        yield pb.UploadArtifactRequest(header=header)
    for start in range(0, len(data), CHUNK):
        yield pb.UploadArtifactRequest(chunk=data[start : start + CHUNK])


async def upload(stub: Stub, data: bytes, **header: object) -> Artifact:
    """Store the bytes."""
    said = UploadHeader(**{"media_type": "image/png", **header})  # type: ignore[arg-type]  # fields by name
    return (await stub.UploadArtifact(parts(said, data))).artifact


async def download(stub: Stub, artifact_id: str, offset: int = 0) -> tuple[Artifact, list[bytes]]:
    """What it is, and its chunks."""
    request = pb.DownloadArtifactRequest(artifact_id=artifact_id, offset=offset)
    messages = [message async for message in stub.DownloadArtifact(request)]
    assert all(message.WhichOneof("part") == "chunk" for message in messages[1:])
    return messages[0].artifact, [message.chunk for message in messages[1:]]


@pytest.mark.parametrize("size", [1, CHUNK, 2 * CHUNK + 1])
async def test_what_goes_up_comes_down(stub: Stub, size: int) -> None:
    """In chunks of at most 512 KiB, with the digest of its bytes."""
    data = random.Random(size).randbytes(size)  # noqa: S311 (any bytes will do)
    digest = hashlib.sha256(data).hexdigest()
    stored = await upload(stub, data, size=size, sha256=digest)
    assert (stored.size, stored.sha256, stored.media_type) == (size, digest, "image/png")
    found, chunks = await download(stub, stored.id)
    assert found == stored
    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= CHUNK for chunk in chunks)


async def test_a_download_goes_on_where_it_broke_off(stub: Stub) -> None:
    """From any offset up to the end, and not beyond."""
    data = random.Random(1).randbytes(CHUNK + 100)  # noqa: S311 (any bytes will do)
    stored = await upload(stub, data)
    for offset in (1, CHUNK, len(data)):
        _, chunks = await download(stub, stored.id, offset)
        assert b"".join(chunks) == data[offset:]
    beyond = pb.DownloadArtifactRequest(artifact_id=stored.id, offset=len(data) + 1)
    refused = await refusal(stub.DownloadArtifact(beyond).read())
    assert refused.fields == {"offset": f"must be at most {len(data)}, not {len(data) + 1}"}


@pytest.mark.parametrize(
    ("header", "field"),
    [
        ({"size": 4}, "header.size"),
        ({"sha256": "0" * 64}, "header.sha256"),
        ({"sha256": "no digest"}, "header.sha256"),
        ({"media_type": "text/html"}, "header.media_type"),
    ],
)
async def test_an_upload_must_be_what_its_header_says(
    stub: Stub, server: RunningServer, header: dict[str, object], field: str
) -> None:
    """The field that is wrong is named, and no file stays."""
    before = stored_blobs(server)
    refused = await refusal(upload(stub, b"abc", **header))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(refused.fields) == {field}
    assert stored_blobs(server) <= before


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    ("media_type", "data", "field"),
    [
        ("image/png", b"", "chunk"),
        ("image/svg+xml", SVG, "header.media_type"),
        ("image/svg+xml", png(), "header.media_type"),
        ("image/gif", b"GIF89a", "header.media_type"),
        ("image/png", SVG, "chunk"),
        ("image/png", b"\xef\xbb\xbf\n <?xml version='1.0'?>" + SVG, "chunk"),
        ("audio/wav", b"<!DOCTYPE html><script>alert(1)</script>", "chunk"),
    ],
)
async def test_what_no_engine_takes_is_not_stored(
    stub: Stub, server: RunningServer, media_type: str, data: bytes, field: str
) -> None:
    """Nothing at all, other kinds of images, and documents that a browser would run."""
    before = stored_blobs(server)
    refused = await refusal(upload(stub, data, media_type=media_type))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(refused.fields) == {field}
    assert stored_blobs(server) <= before


async def test_an_upload_is_a_header_and_chunks(stub: Stub, server: RunningServer) -> None:
    """In this order; nothing stays of anything else."""
    before = stored_blobs(server)
    header = UploadHeader(media_type="image/png")
    for messages, field in (
        ([], "header"),
        (parts(None, b"abc"), "header"),
        ([*parts(header, b"abc"), *parts(header)], "chunk"),
        ([*parts(header), pb.UploadArtifactRequest()], "chunk"),
    ):
        refused = await refusal(stub.UploadArtifact(iter(messages)))
        assert (refused.code, set(refused.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, {field})
    assert stored_blobs(server) <= before


async def test_an_upload_that_is_too_large_is_refused(start_server: StartServer) -> None:
    """As soon as it is; the limit is said, and can be asked for before."""
    server = start_server(limits={"max_upload_bytes": 1000})
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        capabilities = await stub.GetCapabilities(pb.GetCapabilitiesRequest())
        assert capabilities.max_upload_bytes == 1000
        assert (await upload(stub, b"x" * 1000)).size == 1000
        refused = await refusal(upload(stub, b"x" * 1001))
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_LARGE")
        assert "1000 bytes" in refused.message
        assert len(stored_blobs(server)) == 1


async def test_a_chunk_that_is_too_large_is_refused(stub: Stub, server: RunningServer) -> None:
    """At the documented size a chunk is taken, beyond it is not, though the message would be received."""
    header = pb.UploadArtifactRequest(header=UploadHeader(media_type="image/png"))
    whole = await stub.UploadArtifact(iter([header, pb.UploadArtifactRequest(chunk=bytes(CHUNK))]))
    assert whole.artifact.size == CHUNK
    before = stored_blobs(server)
    for size in (CHUNK + 1, 8 * CHUNK):
        messages = iter([header, pb.UploadArtifactRequest(chunk=bytes(size))])
        refused = await refusal(stub.UploadArtifact(messages))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.fields == {"chunk": f"must have at most {CHUNK} bytes, not {size}"}
    assert stored_blobs(server) <= before


async def test_an_aborted_upload_leaves_nothing(stub: Stub, server: RunningServer) -> None:
    """The caller hangs up in the middle."""
    before = stored_blobs(server)
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[pb.UploadArtifactRequest]:
        for message in parts(UploadHeader(media_type="image/png"), bytes(CHUNK)):
            yield message
        reached.set()
        await asyncio.Event().wait()

    call = stub.UploadArtifact(endless())
    await reached.wait()
    await eventually(lambda: not stored_blobs(server) <= before)
    call.cancel()
    await eventually(lambda: stored_blobs(server) <= before)


async def test_an_image_to_start_from_may_be_uploaded_made_or_sent_along(stub: Stub) -> None:
    """All ways give the same bytes, and strength 0 keeps the image."""
    data = png("blue", (64, 64))
    uploaded = await upload(stub, data)
    drawn = (await stub.Generate(image_request(task={"seed": 1}, inline_outputs=True))).generation
    made = []
    for source in (
        MediaSource(artifact_id=uploaded.id),
        MediaSource(attachment="start"),
        MediaSource(artifact_id=drawn.outputs[0].artifact.id),
        MediaSource(uri=data_uri(data)),
        MediaSource(uri=data_uri(data).replace(";base64", ";BASE64")),
        MediaSource(uri="data:," + quote_from_bytes(data)),
    ):
        task = {"init_image": source, "strength": 0.0, "seed": 2}
        request = image_request(task=task, inline_outputs=True)
        request.attachments["start"] = data
        generation = (await stub.Generate(request)).generation
        assert generation.state == State.STATE_SUCCEEDED
        with Image.open(io.BytesIO(generation.outputs[0].data)) as image:
            made.append(image.convert("RGB"))
    assert len({image.tobytes() for image in (*made[:2], *made[3:])}) == 1
    assert made[0].getpixel((5, 5)) == (0, 0, 255)
    with Image.open(io.BytesIO(drawn.outputs[0].data)) as image:
        assert made[2].tobytes() == image.convert("RGB").tobytes()


def data_uri(data: bytes) -> str:
    """The bytes of a PNG file as text."""
    return "data:image/png;base64," + base64.b64encode(data).decode()


async def test_a_data_uri_is_a_source(stub: Stub) -> None:
    """More than an address may have, in a plan too; the receipt does not repeat it."""
    file = io.BytesIO()
    Image.effect_noise((96, 96), 90).save(file, "PNG")
    large = data_uri(file.getvalue())
    assert len(large) > 4096
    request = image_request(task={"init_image": MediaSource(uri=large)})
    request.request_id = "with-data-uris"
    plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=request))
    assert plan.accepted
    made = (await stub.Generate(request)).generation
    assert made.state == State.STATE_SUCCEEDED
    assert not made.image.init_image.uri
    assert (await stub.Generate(request)).generation.id == made.id


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("data:image/png;base64", "needs a comma"),
        ("data:image/png;base64,", "has no data"),
        ("DATA:image/png;base64,%%", "not valid base64"),
        ("data:text/plain,words", "not a PNG"),
        ("https://example.org/" + "a" * 4096, "at most 4096 characters"),
    ],
)
async def test_a_uri_that_cannot_be_used_is_refused(stub: Stub, uri: str, message: str) -> None:
    """With what is wrong about it."""
    request = image_request(task={"init_image": MediaSource(uri=uri)})
    refused = await refusal(stub.Generate(request))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert any(message in text for text in refused.fields.values())


async def test_no_address_of_a_caller_is_asked(stub: Stub) -> None:
    """Neither on this machine, nor elsewhere, nor a file: the server fetches nothing for anybody."""
    asked: list[object] = []
    listening = await asyncio.start_server(lambda *streams: asked.append(streams), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    for start in (f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port}", "file:///etc"):
        request = image_request(task={"init_image": MediaSource(uri=f"{start}/hostname")})
        refused = await refusal(stub.Generate(request))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "does not fetch URIs" in refused.fields["image.init_image.uri"]
    listening.close()
    assert asked == []


@pytest.mark.parametrize(
    "mode", ["L", "LA", "P", "RGBA", "I;16", "1"], ids=lambda mode: mode.replace(";", "")
)
async def test_images_of_every_kind_can_be_started_from(stub: Stub, mode: str) -> None:
    """Grey, transparent, with a palette, of 16 bits."""
    file = io.BytesIO()
    Image.new(mode, (32, 32)).save(file, "PNG")
    request = image_request(task={"init_image": MediaSource(attachment="a")})
    request.attachments["a"] = file.getvalue()
    assert (await stub.Generate(request)).generation.state == State.STATE_SUCCEEDED


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims to be so large."""
    claims = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", claims), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0", "not a PNG, JPEG, WebP or AVIF"),
        (b"no image at all", "not a PNG, JPEG, WebP or AVIF"),
        (b"GIF89a" + bytes(100), "not a PNG, JPEG, WebP or AVIF"),
        (png()[:60], "damaged"),
        (png(size=(64, 64), mode="RGBA")[:90], "damaged"),
        (bomb(9000, 9000), "at most 64000000 pixels, not 9000 x 9000"),
        (bomb(60000, 60000), "at most 64000000 pixels"),
        (bomb(0, 5), "not a PNG, JPEG, WebP or AVIF"),
    ],
    ids=["byte", "text", "gif", "stump", "cut", "large", "bomb", "nothing"],
)
@pytest.mark.parametrize("way", ["attachment", "artifact_id"])
async def test_an_image_that_cannot_be_used_is_refused(
    stub: Stub, way: str, data: bytes, words: str
) -> None:
    """Before any work, naming the field."""
    name = "a" if way == "attachment" else (await upload(stub, data)).id
    request = image_request(task={"init_image": MediaSource(**{way: name})})
    request.attachments["a"] = data
    refused = await refusal(stub.Generate(request))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert words in refused.fields["image.init_image"]


async def test_a_source_that_leads_nowhere_is_refused(stub: Stub) -> None:
    """An attachment that was not sent, an address, nothing at all."""
    for source, field in (
        (MediaSource(attachment="b"), "image.init_image.attachment"),
        (MediaSource(uri="https://example.com/a.png"), "image.init_image.uri"),
        (MediaSource(), "image.init_image.source"),
    ):
        refused = await refusal(stub.Generate(image_request(task={"init_image": source})))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert set(refused.fields) == {field}
