"""Draws the training images from the icon packages: ``python -m recipe.data``.

Every concept is drawn in its natural colours, and in each of the ten colours where it may be
painted; each of these in three placements. The result is one array and one list of records.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import resvg_py
from numpy.typing import NDArray
from PIL import Image

from recipe import concepts
from recipe.colours import PALETTE, repaint

BUILD = Path(__file__).parents[1] / "build"
EXTRA = "extra"
"""Folder in the build with more images, for the autoencoder alone."""

SIZE = 128
PLACEMENTS = ((0.88, 0.0, 0.0), (0.80, -0.03, 0.03), (0.80, 0.03, -0.03))
"""Share of the image that the drawing fills, and its shift to the right and down as shares."""

PACKAGES = {"flat": "@iconify-json/fluent-emoji-flat", "noto": "@iconify-json/noto"}
"""Style word to the npm package with its drawings."""

_BALL = (
    '<circle cx="16" cy="16" r="13.5" fill="#ca0b4a"/>'
    '<circle cx="17" cy="14.8" r="11.6" fill="#f8312f"/>'
    '<ellipse cx="20" cy="9" rx="4" ry="2.6" fill="#ff8687" transform="rotate(28 20 9)"/>'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingImage:
    """What one training image shows."""

    concept: str
    style: str
    colour: str | None
    """Colour that it was painted in; None for its natural ones."""
    placement: int
    """Index into ``PLACEMENTS``."""
    held: bool
    """Kept out of training, for the evaluation only."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """The drawn images and what each shows, in the same order."""

    pixels: NDArray[np.uint8]
    """[count, 128, 128, 3], sRGB."""
    records: list[TrainingImage]

    @staticmethod
    def load(build: Path = BUILD) -> "TrainingSet":
        """What the last run of this program drew.

        Raises:
            FileNotFoundError: it has not run yet.
        """
        records = json.loads((build / "images.json").read_text("utf-8"))
        return TrainingSet(
            np.load(build / "images.npy"), [TrainingImage(**record) for record in records]
        )


class Icons:
    """The drawings of one icon package."""

    def __init__(self, package: Path) -> None:
        document = json.loads((package / "icons.json").read_text("utf-8"))
        self._bodies = {name: icon["body"] for name, icon in document["icons"].items()}
        self._side = float(document.get("width", document.get("height", 16)))

    def svg(self, icon: str) -> tuple[str, float]:
        """The drawing's SVG elements and the side of the square they fill."""
        return (_BALL, 32.0) if icon == "*ball" else (self._bodies[icon], self._side)


def rasterise(body: str, side: float, placement: tuple[float, float, float]) -> NDArray[np.uint8]:
    """The drawing on white: [128, 128, 3]."""
    fill, right, down = placement
    view = side / fill
    left, top = (-(view - side) / 2 - view * shift for shift in (right, down))
    box = f"{left:.4f} {top:.4f} {view:.4f} {view:.4f}"
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">{body}</svg>'
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE, background="white")
    return np.asarray(Image.open(BytesIO(bytes(png))).convert("RGB"))


def draw(
    icons: Icons, style: str, wanted: Sequence[concepts.Concept]
) -> Iterator[tuple[TrainingImage, NDArray[np.uint8]]]:
    """Every image of these concepts in one style."""
    for concept in wanted:
        body, side = icons.svg(concept.icon)
        paints = PALETTE if concept.paint and style == "flat" else ()
        for colour in (None, *paints):
            painted = body if colour is None else repaint(body, concept.paint, colour)
            for index, placement in enumerate(PLACEMENTS):
                yield (
                    TrainingImage(
                        concept=concept.name,
                        style=style,
                        colour=colour,
                        placement=index,
                        held=colour is not None and colour == concept.hold,
                    ),
                    rasterise(painted, side, placement),
                )


def store(
    build: Path, packages: Path, tables: Sequence[str], styles: Sequence[str]
) -> list[TrainingImage]:
    """Draw the concepts of these tables in these styles into ``build``; what was drawn."""
    build.mkdir(parents=True, exist_ok=True)
    wanted = concepts.load(*tables)
    drawn = [
        pair for style in styles for pair in draw(Icons(packages / PACKAGES[style]), style, wanted)
    ]
    records = [record for record, _ in drawn]
    np.save(build / "images.npy", np.stack([pixels for _, pixels in drawn]))
    text = json.dumps([asdict(record) for record in records])
    (build / "images.json").write_text(text, "utf-8")
    return records


def main() -> None:
    """Draw and store the images to learn, and a wider set for the autoencoder alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--tables", nargs="+", default=[*concepts.DRAWN])
    parser.add_argument("--styles", nargs="+", default=[*PACKAGES], choices=sorted(PACKAGES))
    arguments = parser.parse_args()
    packages = arguments.build / "node_modules"
    records = store(arguments.build, packages, arguments.tables, arguments.styles)
    store(arguments.build / EXTRA, packages, concepts.TABLES, tuple(PACKAGES))
    held = sum(record.held for record in records)
    print(f"{len(records)} images, {held} of them held out of training")


if __name__ == "__main__":
    main()
