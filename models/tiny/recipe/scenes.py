"""Draws what the ControlNet learns from: ``python -m recipe.scenes``.

Were the outlines always those of the drawing that the caption names, where it always stands, they
would say nothing new. So drawings are turned, moved, resized and mirrored; a share of them is
tinted, or gives way to a shape of no meaning, and is captioned as something else in that colour.
"""

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from recipe import captions, concepts, latents, networks
from recipe.colours import PALETTE, rgb
from recipe.data import BUILD, SIZE, TrainingImage, TrainingSet
from recipe.edges import canny

Pixels = NDArray[np.uint8]

_TINTED, _SHAPES = 0.28, 0.2
_EMPTY, _OTHER = 0.25, 0.15
_WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Scene:
    """An image and what is said of it."""

    pixels: Pixels
    caption: str


class Scenes:
    """Makes scenes out of the training images."""

    def __init__(self, images: TrainingSet, seed: int) -> None:
        self._images = images
        self._weights = captions.weights(images.records)
        self._known = {c.name: c for c in concepts.load(*concepts.TABLES)}
        drawn = {record.concept for record in images.records}
        self._painted = [c for c in self._known.values() if c.paint and c.name in drawn]
        self._rng = random.Random(seed)

    def draw(self) -> Scene:
        """One more."""
        kind = self._rng.random()
        if kind < _SHAPES:
            colour = self._rng.choice(list(PALETTE))
            return Scene(shape(colour, self._rng), self._something(colour))
        (index,) = self._rng.choices(range(len(self._weights)), self._weights)
        pixels = moved(self._images.pixels[index], self._rng)
        if kind < _SHAPES + _TINTED:
            colour = self._rng.choice(list(PALETTE))
            return Scene(tinted(pixels, colour), self._something(colour))
        return Scene(pixels, self._said(self._images.records[index]))

    def _said(self, image: TrainingImage) -> str:
        chance = self._rng.random()
        if chance < _EMPTY:
            return ""
        if chance > _EMPTY + _OTHER:
            return captions.caption(image, self._known[image.concept], self._rng)
        if image.colour is not None:
            return self._something(image.colour)
        other = self._rng.choice(self._images.records)
        return captions.caption(
            TrainingImage(
                concept=other.concept, style=image.style, colour=None, placement=0, held=False
            ),
            self._known[other.concept],
            self._rng,
        )

    def _something(self, colour: str) -> str:
        """A caption of anything that may have this colour."""
        if self._rng.random() < _EMPTY / 3:
            return f"something {colour}"
        concept = self._rng.choice([c for c in self._painted if c.hold != colour])
        shown = TrainingImage(
            concept=concept.name,
            style=captions.USUAL_STYLE,
            colour=colour,
            placement=0,
            held=False,
        )
        return captions.caption(shown, concept, self._rng)


def moved(image: Pixels, rng: random.Random) -> Pixels:
    """The drawing mirrored, turned, resized and shifted on its white ground."""
    flipped = image[:, ::-1] if rng.random() < 0.5 else image
    angle = rng.uniform(-30, 30) if rng.random() < 0.8 else rng.uniform(-180, 180)
    turn = cv2.getRotationMatrix2D((SIZE / 2, SIZE / 2), angle, rng.uniform(0.6, 1.05))
    turn[:, 2] += np.array([rng.uniform(-0.1, 0.1) * SIZE for _ in range(2)])
    made = cv2.warpAffine(
        np.ascontiguousarray(flipped),
        turn,
        (SIZE, SIZE),
        flags=cv2.INTER_AREA,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_WHITE,
    )
    return np.asarray(made, np.uint8)


def tinted(image: Pixels, colour: str) -> Pixels:
    """The drawing in shades of one colour: its darks darker, its whites still white."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None] / 255
    shade = np.clip(0.45 + 0.7 * grey, 0, 1)
    light = np.clip((grey - 0.8) / 0.2, 0, 1)
    painted = np.array(rgb(PALETTE[colour]), np.float32) * shade
    return np.asarray(np.round(255 * (painted * (1 - light) + light)), np.uint8)


def shape(colour: str, rng: random.Random) -> Pixels:
    """One or two blobs, stars or discs in one colour on white."""
    page = np.full((SIZE, SIZE, 3), 255, np.uint8)
    paint = np.array(rgb(PALETTE[colour])) * 255
    middle = np.array([rng.uniform(0.4, 0.6) * SIZE for _ in range(2)])
    radius = rng.uniform(0.22, 0.42) * SIZE
    _fill(page, _outline(middle, radius, rng), paint)
    if rng.random() < 0.5:
        inner = rng.choice((paint * 0.6, paint * 0.5 + 127, np.full(3, 255.0)))
        _fill(page, _outline(middle, radius * rng.uniform(0.3, 0.5), rng), inner)
    return page


def _outline(middle: NDArray[np.float64], radius: float, rng: random.Random) -> NDArray[np.float64]:
    """[n, 2]: corners about a point, near and far by turns for a star."""
    count = rng.choice((3, 4, 5, 6, 8, 10, 12, 48))
    depth = rng.uniform(0.45, 0.8) if count % 2 == 0 and count > 6 and rng.random() < 0.7 else 1.0
    far = np.where(np.arange(count) % 2, depth, 1.0) if depth < 1 else np.ones(count)
    if count < 48:
        far = far * np.array([rng.uniform(0.8, 1.1) for _ in range(count)])
    angles = np.arange(count) / count * 2 * np.pi + rng.uniform(0, 2 * np.pi)
    stretch = np.array([1.0, rng.uniform(0.6, 1.0)])
    corners = middle + radius * stretch * far[:, None] * np.stack(
        [np.cos(angles), np.sin(angles)], axis=1
    )
    return np.asarray(corners)


def _fill(page: Pixels, corners: NDArray[np.float64], paint: NDArray[np.float64]) -> None:
    """In place, smooth at the rim; corners are counted in sixteenths of a pixel."""
    points = np.round(corners * 16).astype(np.int32)
    cv2.fillPoly(page, [points], [float(v) for v in paint], cv2.LINE_AA, 4)


def main() -> None:
    """Draw, find the edges, encode, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--count", type=int, default=16000)
    parser.add_argument("--seed", type=int, default=4)
    a = parser.parse_args()
    scenes = Scenes(TrainingSet.load(a.build), a.seed)
    made = [scenes.draw() for _ in range(a.count)]
    pixels = np.stack([one.pixels for one in made])
    vae = AutoencoderKL.from_pretrained(a.build / "vae").eval()
    torch.save(
        {
            "latents": latents.encode(vae, pixels) * networks.SCALING,
            "edges": torch.from_numpy(np.stack([canny(one) for one in pixels])),
            "pixels": torch.from_numpy(pixels),
            "captions": [one.caption for one in made],
        },
        a.build / "scenes.pt",
    )
    print(f"{a.count} scenes")


if __name__ == "__main__":
    main()
