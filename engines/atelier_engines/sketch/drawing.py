"""Draws images that depend on seed and prompt: a soft gradient with shapes on it, and the prompt as text.

The text is wrapped, shortened where it does not fit, and legible on any background.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from atelier_engines.capabilities import ImageFeature
from atelier_engines.media import image_from_pixels, pixels_from_image
from atelier_engines.sketch.config import PlaceholderStyle
from atelier_engines.sketch.palette import ANY_COLOR, Palette
from atelier_engines.sketch.sources import SourceImage
from atelier_engines.task import ImageTask

_GRID = 4
"""Colours along each side of the gradient."""
_VIVID_GUIDANCE = 10.0
"""Guidance from which colours are fully saturated."""
_MAX_CHARACTERS = 400
"""Maximum number of characters that are drawn; more are never legible."""
_MIN_FONT_SIZE = 6
"""Pixels; a smaller font is not legible."""
_SPACING = 1.25
_MAX_HEIGHT_FRACTION = 0.6
"""Maximum fraction of the image's height that text may cover."""
_SHADE = (0, 0, 0, 120)
_INK = (255, 255, 255, 255)
_FAINT = (255, 255, 255, 190)
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class DrawnSource:
    """Draws each image."""

    style: PlaceholderStyle = "detailed"
    palette: Palette = ANY_COLOR
    instant: ClassVar[bool] = False
    features: ClassVar[frozenset[ImageFeature]] = frozenset(
        {
            ImageFeature.SEED,
            ImageFeature.NEGATIVE_PROMPT,
            ImageFeature.IMAGE_TO_IMAGE,
            ImageFeature.PREVIEW,
        }
    )

    def make_image(self, task: ImageTask, seed: int, font_size: int | None) -> SourceImage:
        """See ImageSource.make_image."""
        size = (task.width, task.height)
        random = random_generator(seed, task.prompt, task.negative_prompt)
        guidance = task.guidance or 0.0
        draw = draw_plain if self.style == "simple" else draw_image
        image = draw(size, random, guidance, self.palette)
        avoided = f"without {task.negative_prompt}" if task.negative_prompt else ""
        prompt = task.prompt
        if self.style == "debug":
            prompt = f"{describe_task(task, seed)} {prompt}"
        draw_text(image, prompt, avoided, font_size)
        if task.init_image is not None:
            start = image_from_pixels(task.init_image).convert("RGB")
            image = Image.blend(start.resize(size), image, task.strength)
        return SourceImage(media=pixels_from_image(image), image=image)


def random_generator(seed: int, *words: str) -> np.random.Generator:
    """A random generator that depends on the seed and all words, the same on every machine."""
    hashes = [zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in words]
    return np.random.default_rng([seed, *hashes])


def describe_task(task: ImageTask, seed: int) -> str:
    """The values of the decided task that change images, in one line."""
    values = [
        f"{task.width}x{task.height}",
        f"seed {seed}",
        f"steps {task.steps}" if task.steps else "",
        f"guidance {task.guidance:g}" if task.guidance is not None else "",
        f"strength {task.strength:g}" if task.init_image is not None else "",
        f"scheduler {task.scheduler}" if task.scheduler else "",
        f"model {task.model}" if task.model else "",
    ]
    return ", ".join(filter(None, values)) + ":"


def draw_plain(
    size: tuple[int, int], random: np.random.Generator, guidance: float, palette: Palette
) -> Image.Image:
    """An RGB image of `size` (width, height) in one colour; more `guidance` gives a stronger one."""
    return Image.new("RGB", size, palette.pick(random.random(), 0.55, _vividness(guidance)))


def draw_image(
    size: tuple[int, int],
    random: np.random.Generator,
    guidance: float,
    palette: Palette = ANY_COLOR,
) -> Image.Image:
    """Draw an RGB image of `size` (width, height); more `guidance` gives stronger colours."""
    hue = random.random()
    vividness = _vividness(guidance)
    image = _gradient(size, hue, vividness, random, palette)
    for _ in range(int(random.integers(3, 6))):
        _add_shape(image, hue, vividness, random, palette)
    return image


def _vividness(guidance: float) -> float:
    return 0.25 + 0.6 * min(guidance / _VIVID_GUIDANCE, 1.0)


def _gradient(
    size: tuple[int, int],
    hue: float,
    vividness: float,
    random: np.random.Generator,
    palette: Palette,
) -> Image.Image:
    colours: NDArray[np.uint8] = np.zeros((_GRID, _GRID, 3), np.uint8)
    for row in range(_GRID):
        for column in range(_GRID):
            near = hue + random.uniform(-0.1, 0.1)
            lightness = 0.75 - 0.4 * row / (_GRID - 1) + random.uniform(-0.08, 0.08)
            colours[row, column] = palette.pick(near, lightness, vividness)
    return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)


def _add_shape(
    image: Image.Image,
    hue: float,
    vividness: float,
    random: np.random.Generator,
    palette: Palette,
) -> None:
    """Draw one translucent disc or rounded block, at twice the size to soften its edge."""
    side = max(2, round(min(image.size) * random.uniform(0.15, 0.5)))
    mask = Image.new("L", (2 * side, 2 * side))
    pen = ImageDraw.Draw(mask)
    box = (0, 0, 2 * side - 1, 2 * side - 1)
    opacity = int(random.integers(110, 200))
    if random.random() < 0.7:  # noqa: PLR2004 (most shapes are round)
        pen.ellipse(box, fill=opacity)
    else:
        pen.rounded_rectangle(box, radius=side // 2, fill=opacity)
    across = hue + float(random.choice((0.08, 0.42, 0.5, 0.58)))
    colour = palette.pick(across, random.uniform(0.45, 0.8), vividness)
    left = round(random.uniform(0, image.width) - side / 2)
    top = round(random.uniform(0, image.height * 0.7) - side / 2)
    image.paste(colour, (left, top), mask.reduce(2))


def draw_text(image: Image.Image, words: str, small_words: str, font_size: int | None) -> None:
    """Draw `words`, and `small_words` below them, at the bottom of the image.

    `font_size` is in pixels; None derives it from the image. Images too small for text get none.
    """
    size = font_size or max(_MIN_FONT_SIZE, min(image.size) // 15)
    margin = size // 2
    room = image.width - 2 * margin
    rows = int((image.height * _MAX_HEIGHT_FRACTION - margin) / (size * _SPACING))
    small = max(_MIN_FONT_SIZE, size * 2 // 3)
    notes = _wrap(small_words, _font(small), room, 1) if rows > 1 else []
    lines = _wrap(words, _font(size), room, rows - len(notes))
    if not lines and not notes:
        return
    pen = ImageDraw.Draw(image, "RGBA")
    height = (len(lines) * size + len(notes) * small) * _SPACING
    top = image.height - height - margin
    pen.rectangle((0, top - margin / 2, image.width, image.height), fill=_SHADE)
    for line in lines:
        pen.text((margin, top), line, _INK, _font(size))
        top += size * _SPACING
    for line in notes:
        pen.text((margin, top), line, _FAINT, _font(small))


@lru_cache(maxsize=32)
def _font(size: int) -> _Font:
    return ImageFont.load_default(size)


def _wrap(words: str, font: _Font, room: float, rows: int) -> list[str]:
    """Wrap text to at most `rows` lines of `room` pixels; an ellipsis marks what is cut off."""
    rest = _printable(words)
    lines: list[str] = []
    while rest and len(lines) < rows:
        fits = _fitting_length(rest, font, room)
        if not fits:
            break
        space = rest.rfind(" ", 0, fits + 1)
        cut = fits if fits == len(rest) or space <= 0 else space
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    if rest and lines:
        lines[-1] = _shorten(lines[-1], font, room)
    return lines


def _fitting_length(text: str, font: _Font, room: float) -> int:
    """Number of characters of `text` that fit into `room` pixels."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle]) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _shorten(line: str, font: _Font, room: float) -> str:
    return line[: _fitting_length(line, font, room - font.getlength("…"))].rstrip() + "…"


def _printable(words: str) -> str:
    shown = "".join(letter if letter.isprintable() else " " for letter in words[:_MAX_CHARACTERS])
    return " ".join(shown.split()) + ("…" if len(words) > _MAX_CHARACTERS else "")
