"""Judges the LoRA "sketch": ``python -m recipe.evaluate_lora``.

Pencil has no colour: the chroma of the drawn pixels falls as the weight rises, and the nearest of
all training images and sketches is a sketch, of the asked thing.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipe import concepts, sheet
from recipe.classifier import Classifier, chroma, share
from recipe.data import BUILD, TrainingSet
from recipe.evaluate import HERE, Asked, Renderer, keep
from recipe.export import LORAS, WEIGHTS
from recipe.sketch import sketch

Pixels = NDArray[np.uint8]

_WEIGHTS = (0.0, 0.5, 1.0)
_SHOWN = 12


def judge_of(images: TrainingSet) -> Classifier:
    """One that knows every natural drawing of the usual style both plain and as a sketch."""
    kept = [
        i
        for i, r in enumerate(images.records)
        if r.colour is None and r.placement == 0 and r.style == "flat"
    ]
    plain = images.pixels[kept]
    records = [images.records[i] for i in kept]
    sketches = [sketch(image) for image in plain]
    names = [record.concept for record in records]
    styles = ["plain"] * len(names) + ["sketch"] * len(names)
    return Classifier(np.concatenate([plain, np.stack(sketches)]), [*names, *names], styles)


def main() -> None:
    """Write the figures and a sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--lora", type=Path, default=LORAS / "sketch")
    parser.add_argument("--out", type=Path, default=HERE)
    a = parser.parse_args()
    settings = json.loads((a.weights / "atelier.json").read_text("utf-8"))
    renderer = Renderer(
        a.weights, steps=settings["default_steps"], guidance=settings["default_guidance"]
    )
    known = concepts.load(*concepts.DRAWN)
    asked = [Asked(prompt=f"a {c.name}", concept=c.name, colour=None, seed=3) for c in known]
    classifier = judge_of(TrainingSet.load(a.build))
    plain = list(renderer.draw(asked))
    renderer.set_lora(a.lora)
    drawn: dict[float, list[Pixels]] = {}
    for weight in _WEIGHTS:
        renderer.set_lora_weight(weight)
        drawn[weight] = list(renderer.draw(asked))
    renderer.disable_lora()
    again = list(renderer.draw(asked))
    found = [classifier.concepts(image, 1)[0] for image in drawn[1.0]]
    figures: dict[str, object] = {
        "images": len(asked),
        **{
            f"chroma_at_{weight:g}": round(float(np.mean([chroma(p) for p in images])), 1)
            for weight, images in drawn.items()
        },
        "sketch_at_1": round(share([classifier.style(p) == "sketch" for p in drawn[1.0]]), 3),
        "top1_at_1": round(
            share([name == one.concept for name, one in zip(found, asked, strict=True)]), 3
        ),
        "same_at_0": bool(np.array_equal(plain, drawn[0.0])),
        "same_after": bool(np.array_equal(plain, again)),
    }
    keep(a.out / "figures.json", "lora sketch", figures)
    shown = [*range(0, len(known), len(known) // _SHOWN)][:_SHOWN]
    rows = [(f"weight {w:g}", [drawn[w][i] for i in shown]) for w in _WEIGHTS]
    sheet.write_rows(a.out / "lora-sketch.png", rows)


if __name__ == "__main__":
    main()
