"""AVIF files count as what their frames have, whatever size they state."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier.v1.task_pb2 import MediaSource
from atelier_engines.decoding.av1 import find_largest_frame
from atelier_engines.decoding.budget import DECODING_BYTES_PER_PIXEL
from atelier_engines.decoding.header import UndecodableError, read_header
from atelier_server.admission.inputs import InputLoader
from atelier_server.artifacts.artifact_store import ArtifactStore
from atelier_server.artifacts.blobs.filesystem import FileBlobStore
from atelier_server.artifacts.decode import Decoder
from atelier_server.store.sqlite.store import SqliteStore


def file_of(size: tuple[int, int], mode: str = "RGB", *, animated: bool = False) -> bytes:
    """An AVIF file of that size."""
    file = io.BytesIO()
    frames = [Image.new(mode, size, color) for color in ("white", "black")]
    frames[0].save(file, "AVIF", save_all=animated, append_images=frames[1:], speed=10)
    return file.getvalue()


def state_size(data: bytes, width: int, height: int) -> bytes:
    """The same file with another size in its boxes."""
    changed = bytearray(data)
    struct.pack_into(">II", changed, data.index(b"ispe") + 8, width, height)
    track = data.find(b"tkhd") - 4
    if track > 0:  # an animation; at its end, and with 16 bits of fraction
        (length,) = struct.unpack_from(">I", data, track)
        struct.pack_into(">II", changed, track + length - 8, width << 16, height << 16)
    return bytes(changed)


@pytest.mark.parametrize("animated", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("size", [(1, 1), (17, 300), (2049, 3)])
def test_frames_have_the_size_that_the_file_states(
    size: tuple[int, int], mode: str, *, animated: bool
) -> None:
    """Where it is right."""
    header = read_header(file_of(size, mode, animated=animated))
    assert header.largest_frame == header.decoded_size == header.size == size


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    """One that takes a megapixel."""
    made = Decoder(max_pixels=2**20, max_bytes=2**28)
    yield made
    made.close()


@pytest.mark.parametrize("animated", [False, True])
async def test_a_frame_that_exceeds_the_stated_size_counts(
    decoder: Decoder, *, animated: bool
) -> None:
    """Its decoder allocates the frame; one over the limit is refused with the size of the frame."""
    small = state_size(file_of((800, 600), animated=animated), 64, 64)
    header = await decoder.read_header(small)
    assert (header.size, header.pixels) == ((64, 64), 800 * 600)
    large = state_size(file_of((3000, 2000), animated=animated), 64, 64)
    with pytest.raises(UndecodableError, match="1048576 pixels, not 3000 x 2000"):
        await decoder.read_header(large)


async def test_a_worker_reserves_memory_for_the_frame(decoder: Decoder, tmp_path: Path) -> None:
    """Though the record of the artifact has the stated size."""
    store = await SqliteStore.open(tmp_path / "atelier.db", max_attempts=3, retention_seconds=60)
    artifacts = ArtifactStore(
        store, FileBlobStore(tmp_path / "blobs"), retention_seconds=60, max_upload_bytes=2**20
    )
    small = state_size(file_of((800, 600)), 64, 64)
    artifact = await artifacts.add(small, "image/png", "ada")  # whatever the caller says that it is
    assert (artifact.image_size.width, artifact.image_size.height) == (64, 64)
    images = InputLoader(artifacts, decoder)
    sources = {"init_image": MediaSource(artifact_id=artifact.id)}
    async with images.load(sources, GenerateRequest(), "ada") as loaded:
        assert loaded["init_image"].array.shape == (64, 64, 3)
    assert decoder.budget._most_bytes >= 800 * 600 * DECODING_BYTES_PER_PIXEL
    await store.close()


def pack(*fields: tuple[int, int]) -> bytes:
    """Numbers of so many bits each, and the bit that ends an OBU."""
    bits = "".join(f"{value:0{count}b}" for value, count in fields if count) + "1"
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))


def unit(kind: int, body: bytes) -> bytes:
    """An OBU with its length."""
    return bytes([kind << 3 | 2, len(body)]) + body


TIMING = ((1, 1), (1, 32), (25, 32), (0, 1), (1, 1), (9, 5), (1, 32), (9, 5), (6, 5))
POINTS = ((1, 1), (1, 5), *[(0, 12), (9, 5), (0, 1), (1, 1), (0, 21), (1, 1), (3, 4)] * 2)
SIZE = ((10, 4), (9, 4), (1919, 11), (599, 10))
FULL = unit(
    1,
    pack(
        *((0, 3), (0, 1), (0, 1)),
        *TIMING,
        *POINTS,
        *SIZE,
        *((1, 1), (3, 4), (2, 3), (0, 7), (1, 1), (0, 2), (0, 1), (1, 1), (0, 1), (1, 1)),
    ),
)
"""A sequence header with everything that may stand before and after the size: 1920 x 600, in 11 and 10 bits."""
BEFORE = ((0, 1), (0, 2), (1, 1), (5, 7), (0, 1), (77, 8))
"""What stands in a key frame of it before its size: shown again, type, shown, time, probabilities, id."""


@pytest.mark.parametrize(
    ("own_size", "wanted"), [(0, (1920, 600)), (1, (2048, 1024))], ids=["sequence's", "own"]
)
def test_a_frame_may_have_a_size_of_its_own(own_size: int, wanted: tuple[int, int]) -> None:
    """It counts as the most that fits the bits of its size."""
    frame = unit(6, pack(*BEFORE, (own_size, 1), (0, 64)))
    assert find_largest_frame([unit(2, b"") + FULL + frame]) == wanted


def test_a_switch_frame_has_a_size_of_its_own() -> None:
    """By its type."""
    frame = unit(3, pack((0, 1), (3, 2), (1, 1), (5, 7), (0, 64)))
    assert find_largest_frame([FULL + frame]) == (2048, 1024)
    assert find_largest_frame([]) == (0, 0)


def test_endless_parts_are_damaged() -> None:
    """Each costs a byte, and reading them time."""
    with pytest.raises(IndexError):
        find_largest_frame([bytes([2 << 3 | 2, 0]) * 2**19])
