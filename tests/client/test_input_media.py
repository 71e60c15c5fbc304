"""Input images in every form that a caller may have them, with both clients."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atelier.v1 import generation_service_pb2 as pb
from atelier_client import Artifact, Client, media
from atelier_client.errors import InvalidRequestError, NotFoundError
from atelier_client.media import ArtifactId, HttpsUri, Media
from tests.client.conftest import MakeCaller
from tests.client.fake_server import ARTIFACT, FakeServer
from tests.conftest import RunningServer

PIXELS = np.arange(64 * 48 * 3, dtype=np.uint8).reshape(48, 64, 3)
STORED = Artifact(id="a1", media_type="image/png", size=8, sha256="")


def png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = PIXELS) -> bytes:
    """The pixels as a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pixels_of(source: Media) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """What the client sends for it, decoded."""
    data = media.resolve(source)
    assert isinstance(data, bytes)
    return np.asarray(Image.open(io.BytesIO(data)))


@dataclass
class Mapped:
    """A file whose bytes are not of the type bytes."""

    path: Path

    def read(self) -> bytearray:
        """All of them."""
        return bytearray(self.path.read_bytes())


def opened_at(position: int, data: bytes) -> io.BytesIO:
    """An open file of which so many bytes were read."""
    file = io.BytesIO(data)
    file.seek(position)
    return file


def base64_of(path: Path) -> bytes:
    """The content, with padding."""
    return base64.b64encode(path.read_bytes() + b"\0" * (-path.stat().st_size % 3 + 1))


def closed_image() -> Image.Image:
    """An image whose pixels are gone."""
    image = Image.fromarray(PIXELS)
    image.close()
    return image


def image_with(name: str, value: object) -> Image.Image:
    """An image with that entry of its file's information."""
    image = Image.fromarray(PIXELS)
    image.info[name] = value
    return image


FORMS: dict[str, Callable[[Path], Media]] = {
    "a path as text": str,
    "a path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "a bytearray": lambda path: bytearray(path.read_bytes()),
    "a memoryview": lambda path: memoryview(path.read_bytes()),
    "an open file": lambda path: io.BytesIO(path.read_bytes()),
    "an image of Pillow": lambda _: Image.fromarray(PIXELS),
    "an array": lambda _: PIXELS,
    "an array of floating point": lambda _: PIXELS / np.float32(255),
    "an array with other strides": lambda _: np.asfortranarray(PIXELS),
    "an open file at its position": lambda path: opened_at(4, b"skip" + path.read_bytes()),
    "a file that returns a bytearray": Mapped,
    "an array of other bytes": lambda _: (PIXELS / 255).astype(">f8"),
    "a view with negative strides": lambda _: PIXELS[::-1, ::-1].copy()[::-1, ::-1],
    "a data URI": lambda path: "data:image/png;base64," + base64_of(path).decode(),
    "a data URI in capitals": lambda path: "DATA:image/png;BASE64," + base64_of(path).decode(),
    "a data URI with parameters": lambda path: (
        " data:image/png;name=a;base64 ," + base64_of(path).decode()
    ),
    "a data URI in lines": lambda path: (
        "data:;base64," + base64.encodebytes(path.read_bytes()).decode()
    ),
    "a data URI without padding": lambda path: (
        "data:;base64," + base64_of(path).decode().rstrip("=")
    ),
    "a data URI in percent": lambda path: (
        "data:;base64," + base64_of(path).decode().replace("/", "%2F").replace("+", "%2B")
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_local_media_are_read(form: str, tmp_path: Path) -> None:
    """Every form gives the same pixels."""
    path = tmp_path / "start.png"
    path.write_bytes(png())
    assert np.array_equal(pixels_of(FORMS[form](path)), PIXELS)


def test_arrays_of_masks_and_of_grey_are_read() -> None:
    """True is white; one channel is grey, four have transparency."""
    mask = np.zeros((48, 64), dtype=np.bool_)
    mask[:24] = True
    assert np.array_equal(pixels_of(mask), np.where(mask, 255, 0))
    assert np.array_equal(pixels_of(PIXELS[:, :, :1]), PIXELS[:, :, 0])
    assert pixels_of(np.dstack([PIXELS, PIXELS[:, :, 0]])).shape == (48, 64, 4)


def test_an_image_keeps_what_turns_it_upright() -> None:
    """The server turns it by its EXIF orientation, as it does with a file."""
    image = Image.fromarray(PIXELS)
    image.getexif()[0x0112] = 6
    data = media.resolve(image)
    assert isinstance(data, bytes)
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6


def test_media_elsewhere_are_named() -> None:
    """By their ids or their URIs; an output means its artifact."""
    assert media.resolve(STORED) == ArtifactId("a1")
    assert media.resolve("0" * 26) == ArtifactId("0" * 26)
    assert media.resolve("a2") == ArtifactId("a2")
    assert media.resolve("https://example.org/a.png") == HttpsUri("https://example.org/a.png")


def test_a_file_named_like_an_id_is_meant_by_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text of that form is an id; any other name of a file is the file."""
    monkeypatch.chdir(tmp_path)
    for name in ("0" * 26, "start"):
        Path(name).write_bytes(png())
    assert media.resolve("0" * 26) == ArtifactId("0" * 26)
    assert media.resolve(Path("0" * 26)) == png()
    assert media.resolve("start") == png()


WRONG: dict[str, tuple[object, str]] = {
    "a number": (3.5, "float is no image: give a path"),
    "nothing of the file": (b"", "empty"),
    "a file that is not there": ("/nowhere/a.png", "cannot read /nowhere/a.png: No such file"),
    "a suffix without a file": ("nowhere.png", "cannot read nowhere.png"),
    "a folder": (Path("/"), "cannot read /: Is a directory"),
    "a path with a zero": ("a\0/b.png", "cannot read"),
    "no text at all": ("", "the text is empty"),
    "white space": (" ", "the text is empty"),
    "a name that is too long": ("x" * 5000 + "/a.png", "File name too long"),
    "a file of text": (io.StringIO("x"), "mode 'rb'"),
    "a file that was read": (io.BytesIO(b""), "read to its end"),
    "another scheme": ("http://example.org/a.png", "https://, not http://"),
    "no base64": ("data:image/png;base64,§", "base64"),
    "a data URI without data": ("data:image/png", "comma"),
    "integers": (np.zeros((8, 8), np.int64), "int64"),
    "levels above 1": (np.full((8, 8), 1.5), "0 to 1"),
    "not a number": (np.full((8, 8), np.nan), "0 to 1"),
    "channels first": (np.zeros((3, 8, 8), np.uint8), r"not \(3, 8, 8\)"),
    "an empty array": (np.zeros((0, 8), np.uint8), r"not \(0, 8\)"),
    "a mode of print": (Image.new("CMYK", (8, 8)), r"'CMYK' cannot be sent: use image\.convert"),
    "a mode that a conversion would clip": (Image.new("F", (8, 8)), "give it as an array"),
    "an image without pixels": (Image.new("RGB", (0, 5)), "the image cannot be read"),
    "a closed image": (closed_image, "the image cannot be read: Operation on closed image"),
    "a cut image": (
        lambda: Image.open(io.BytesIO(png()[: len(png()) // 2])),
        "the image cannot be read: .*truncated",
    ),
    "an image with damaged EXIF": (
        lambda: image_with("exif", b"Exif\0\0no"),
        "the image cannot be read",
    ),
    "an image with a profile of text": (
        lambda: image_with("icc_profile", "x"),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_anything_else_is_an_invalid_request(
    name: str, calling: MakeCaller, fake_server: tuple[FakeServer, str]
) -> None:
    """The error names the field and what to give; nothing is sent."""
    source, message = WRONG[name]
    if callable(source):
        source = source()
    if isinstance(source, io.IOBase):
        source.seek(0)
    service, address = fake_server
    async with calling(address) as caller:
        with pytest.raises(InvalidRequestError, match=message) as raised:
            await caller.call("generate", "a lamp", init_image=source)
    assert [violation.field for violation in raised.value.violations] == ["init_image"]
    assert not service.requests


async def test_small_media_are_attached_and_large_ones_uploaded_once(
    calling: MakeCaller, fake_server: tuple[FakeServer, str]
) -> None:
    """The total decides, so that no request exceeds the limit of the server; a batch uploads once, too."""
    service, address = fake_server
    large = png() + bytes(2**20)
    async with calling(address) as caller:
        await caller.call("submit", "a lamp", init_image=png(), mask=png())
        await caller.call("generate", ["a", "b"], init_image=large, mask=large)
    headers = [
        part.header
        for part in service.requests
        if isinstance(part, pb.UploadArtifactRequest) and part.HasField("header")
    ]
    small, *others = [part for part in service.requests if isinstance(part, pb.GenerateRequest)]
    assert dict(small.attachments) == {"init_image": png(), "mask": png()}
    assert [header.size for header in headers] == [len(large)]
    assert {part.image.init_image.artifact_id for part in others} == {ARTIFACT.id}
    assert {part.image.mask.artifact_id for part in others} == {ARTIFACT.id}


async def test_the_server_takes_every_kind(calling: MakeCaller, server: RunningServer) -> None:
    """An array, an output, and its artifact's id; a URI it refuses by name, and an unknown id."""
    async with calling(server.address) as caller:
        first = await caller.call("generate", "a", init_image=PIXELS, strength=0.5)
        output = first.images[0]
        for source in (output, output.artifact, output.artifact.id, output.image, output.array):
            await caller.call("generate", "a", init_image=source, strength=0.5)
        with pytest.raises(InvalidRequestError, match=r"init_image\.uri"):
            await caller.call("generate", "a", init_image="https://example.org/a.png")
        with pytest.raises(NotFoundError, match="init_image"):
            await caller.call("generate", "a", init_image="0" * 26)


def test_an_upload_takes_local_media_only(server: RunningServer) -> None:
    """An array, for instance; what is stored already is no file."""
    with Client(server.address) as client:
        stored = client.upload(PIXELS)
        assert (stored.width, stored.height) == (64, 48)
        with pytest.raises(InvalidRequestError, match="not a file of this machine"):
            client.upload(stored)
