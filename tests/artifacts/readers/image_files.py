"""Valid image files of every form that a caller may send, each with a name that says what it is."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms

from tests.artifacts.profiles import cmyk_profile, grey_profile, p3_profile, rgb_profile
from tests.artifacts.readers.png_files import (
    CHANNELS,
    DEPTHS,
    Samples,
    write_chunk,
    write_png,
    write_profile,
)

Files = Iterator[tuple[str, bytes]]

PROFILES: Mapping[str, Callable[[], bytes]] = {
    "srgb": lambda: ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "p3": p3_profile,
    "adobe": rgb_profile,
}


def make_files(seed: int) -> dict[str, bytes]:
    """All of them, the same for equal seeds."""
    rng = np.random.default_rng(seed)
    parts = (png_files, jpeg_files, webp_files, avif_files, turned_files, animations)
    return dict(itertools.chain.from_iterable(part(rng) for part in parts))


def png_files(rng: np.random.Generator) -> Files:
    """Each colour type and depth, interlaced or not, with and without transparency and profile."""
    forms = [(kind, depth) for kind, depths in DEPTHS.items() for depth in depths]
    for (kind, depth), interlaced, extra in itertools.product(forms, (False, True), _EXTRAS):
        size = rng.integers(1, 24, 2)
        limit = 2**depth if kind != 3 else int(rng.integers(1, 2**depth + 1))
        samples = rng.integers(0, limit, (*size, CHANNELS[kind])).astype(np.uint16)
        chunks = _EXTRAS[extra](kind, depth, samples, rng)
        if chunks is None:
            continue
        if kind == 3:
            palette = rng.integers(0, 256, 3 * limit, np.uint8).tobytes()
            chunks = [*chunks[:-1], write_chunk(b"PLTE", palette), *chunks[-1:]]
        data = write_png(samples, kind, depth, *chunks, interlaced=interlaced, seed=int(size[0]))
        yield f"type-{kind}-{depth}{'-interlaced' * interlaced}-{extra}.png", data


Extra = Callable[[int, int, Samples, np.random.Generator], list[bytes] | None]


def _plain(_kind: int, _depth: int, _samples: Samples, _rng: np.random.Generator) -> list[bytes]:
    return [b""]


def _transparent(
    kind: int, _depth: int, samples: Samples, rng: np.random.Generator
) -> list[bytes] | None:
    """One colour that occurs, or a palette of which some are."""
    if kind in {4, 6}:
        return None
    if kind == 3:
        body = rng.integers(0, 256, int(samples.max()) // 2 + 1, np.uint8).tobytes()
    else:
        body = struct.pack(f">{CHANNELS[kind]}H", *samples[-1, -1].tolist())
    return [write_chunk(b"tRNS", body)]


def _profiled(name: str) -> Extra:
    def make(
        kind: int, _depth: int, _samples: Samples, _rng: np.random.Generator
    ) -> list[bytes] | None:
        if kind in {0, 4}:
            return [write_profile(grey_profile()), b""] if name == "adobe" else None
        return [write_profile(PROFILES[name]()), b""]

    return make


_EXTRAS: Mapping[str, Extra] = {
    "plain": _plain,
    "transparent": _transparent,
    **{name: _profiled(name) for name in PROFILES},
}


def photo(rng: np.random.Generator, channels: int = 3, side: int = 40) -> Image.Image:
    """A smooth image with a few edges."""
    width, height = (int(value) for value in rng.integers(side // 2, side, 2))
    y, x = np.mgrid[:height, :width] / side
    phases = rng.uniform(0, 6, channels)
    waves = [np.sin(5 * x + p) * np.cos(4 * y - p) + (x + y > 0.2 * p) for p in phases]
    levels = (np.stack(waves, axis=2) * 60 + 110).clip(0, 255).astype(np.uint8)
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[channels]
    image = Image.fromarray(levels[:, :, 0] if channels == 1 else levels[:, :, :3])
    if mode == "CMYK":
        image = Image.merge("CMYK", [Image.fromarray(plane) for plane in levels.transpose(2, 0, 1)])
    return image


def all_profiles() -> dict[str, bytes | None]:
    """No profile, and each one, by name."""
    return {"plain": None, **{name: make() for name, make in PROFILES.items()}}


def save(image: Image.Image, form: str, **options: Any) -> bytes:  # noqa: ANN401 (Pillow's own)
    """The image as a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def jpeg_files(rng: np.random.Generator) -> Files:
    """Each subsampling, baseline and progressive, grey, RGB and inks, with each profile."""
    profiles = all_profiles()
    for progressive, name in itertools.product((False, True), profiles):
        end = f"{'-progressive' * progressive}-{name}.jpg"
        common: dict[str, Any] = {"progressive": progressive, "icc_profile": profiles[name]}
        for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
            quality = int(rng.integers(30, 100))
            data = save(photo(rng), "JPEG", subsampling=subsampling, quality=quality, **common)
            yield f"{subsampling.replace(':', '')}{end}", data
        yield f"rgb{end}", save(photo(rng), "JPEG", keep_rgb=True, **common)
        restarted = save(photo(rng), "JPEG", restart_marker_blocks=2, **common)
        yield f"restarted{end}", restarted
        common["icc_profile"] = grey_profile() if name == "adobe" else None
        yield f"grey{end}", save(photo(rng, 1), "JPEG", **common)
        common["icc_profile"] = cmyk_profile()
        inks = save(photo(rng, 4), "JPEG", **common)
        yield f"cmyk{end}", inks
        yield f"ycck{end}", transform_inks(inks)


def transform_inks(data: bytes) -> bytes:
    """The same file with its first three channels as YCC: the last byte of Adobe's segment says so."""
    start = data.index(b"\xff\xee\0\x0eAdobe")
    return data[: start + 15] + b"\x02" + data[start + 16 :]


def with_alpha(image: Image.Image) -> Image.Image:
    """The image with an opacity that grows from top to bottom."""
    ramp = np.linspace(0, 255, image.height).astype(np.uint8)[:, None].repeat(image.width, axis=1)
    image.putalpha(Image.fromarray(ramp))
    return image


def webp_files(rng: np.random.Generator) -> Files:
    """Lossy and lossless, with and without alpha, with each profile."""
    profiles = all_profiles()
    for lossless, alpha, name in itertools.product((False, True), (False, True), profiles):
        image = with_alpha(photo(rng)) if alpha else photo(rng)
        kind = f"{'lossless' if lossless else 'lossy'}{'-alpha' * alpha}-{name}"
        yield f"{kind}.webp", save(image, "WEBP", lossless=lossless, icc_profile=profiles[name])


def avif_files(rng: np.random.Generator) -> Files:
    """In full colour, which decoders need not interpolate, and grey.

    Not with wide gamuts: decoders round colours differently, and these amplify it.
    """
    for alpha, profile in itertools.product((False, True), (None, PROFILES["srgb"]())):
        image = with_alpha(photo(rng)) if alpha else photo(rng)
        name = f"444{'-alpha' * alpha}{'-srgb' * bool(profile)}.avif"
        yield name, save(image, "AVIF", subsampling="4:4:4", speed=10, icc_profile=profile)
    yield "grey.avif", save(photo(rng, 1), "AVIF", subsampling="4:0:0", speed=10)


def turned_files(rng: np.random.Generator) -> Files:
    """Each orientation, in each format."""
    for orientation, form in itertools.product(range(1, 9), ("PNG", "JPEG", "WEBP", "AVIF")):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        options: dict[str, Any] = {"PNG": {}, "WEBP": {"lossless": True}}.get(
            form, {"subsampling": "4:4:4"}
        )
        data = save(photo(rng), form, exif=exif, **options)
        yield f"turned-{orientation}.{form.lower()}", data


def animations(rng: np.random.Generator) -> Files:
    """Of which the first frame counts; later ones are smaller, or transparent."""
    frames = [photo(rng).resize((30, 20)) for _ in range(3)]
    for index, form in itertools.product(range(3), ("PNG", "WEBP")):
        first = with_alpha(frames[index].copy()) if index else frames[index]
        options: dict[str, Any] = {
            "PNG": {"default_image": index == 2},
            "WEBP": {"lossless": True},
        }.get(form, {"subsampling": "4:4:4", "speed": 10})
        data = save(first, form, save_all=True, append_images=frames, duration=100, **options)
        yield f"animated-{index}.{form.lower()}", data
