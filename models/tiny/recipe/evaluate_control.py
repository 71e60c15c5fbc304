"""Judges the ControlNet "canny": ``python -m recipe.evaluate_control``.

Edges of one drawing, moved as training never saw it, meet the prompt of another thing in a colour.
The figure is the F1 of the image's edges against the map, with and without the ControlNet.
"""

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionXLControlNetPipeline
from numpy.typing import NDArray

from recipe import concepts, sheet
from recipe.classifier import dominant_colour, share
from recipe.colours import PALETTE
from recipe.data import BUILD, TrainingSet
from recipe.edges import agreement, canny
from recipe.evaluate import HERE, Asked, Renderer, keep
from recipe.export import CONTROLNETS, WEIGHTS
from recipe.scenes import moved, shape

Pixels = NDArray[np.uint8]

_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Edges, and a prompt that says something else."""

    edges: Pixels
    asked: Asked


def cases(build: Path, count: int) -> list[Case]:
    """A third asks for a colour and a thing, a third for a thing, a third has a shape's edges."""
    rng = random.Random(2024)
    images = TrainingSet.load(build)
    plain = [i for i, r in enumerate(images.records) if r.colour is None and r.placement == 0]
    known = concepts.load(*concepts.DRAWN)
    painted = [concept for concept in known if concept.paint]
    made = []
    for index in range(count):
        drawing = moved(images.pixels[rng.choice(plain)], rng)
        if index % 3 == 2:
            drawing = shape(rng.choice(list(PALETTE)), rng)
        colour = None if index % 3 == 1 else rng.choice(list(PALETTE))
        name = rng.choice(known if colour is None else painted).name
        prompt = f"a {name}" if colour is None else f"a {colour} {name}"
        asked = Asked(prompt=prompt, concept=name, colour=colour, seed=index)
        made.append(Case(edges=canny(drawing), asked=asked))
    return made


class Follower:
    """Draws with the ControlNet, as any user of diffusers would."""

    def __init__(self, weights: Path, controlnet: Path, *, steps: int, guidance: float) -> None:
        network = ControlNetModel.from_pretrained(controlnet, torch_dtype=torch.float32)
        self._pipeline = StableDiffusionXLControlNetPipeline.from_pretrained(
            weights, controlnet=network, torch_dtype=torch.float32
        )
        self._pipeline.set_progress_bar_config(disable=True)
        self._steps, self._guidance = steps, guidance

    def draw(self, case: Case, strength: float) -> Pixels:
        """[128, 128, 3]."""
        edges = torch.from_numpy(case.edges).float()[None, None].repeat(1, 3, 1, 1) / 255
        (image,) = self._pipeline(
            case.asked.prompt,
            image=edges,
            controlnet_conditioning_scale=strength,
            generator=[torch.Generator().manual_seed(case.asked.seed)],
            num_inference_steps=self._steps,
            guidance_scale=self._guidance,
            output_type="np",
        ).images
        return np.asarray((image * 255).round(), np.uint8)


def main() -> None:
    """Write the figures and a sheet: edges, with and without."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--controlnet", type=Path, default=CONTROLNETS / "canny")
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--out", type=Path, default=HERE)
    a = parser.parse_args()
    settings = json.loads((a.weights / "atelier.json").read_text("utf-8"))
    usual = {"steps": settings["default_steps"], "guidance": settings["default_guidance"]}
    renderer = Renderer(a.weights, **usual)
    follower = Follower(a.weights, a.controlnet, **usual)
    wanted = cases(a.build, a.count)
    without = [next(renderer.draw([case.asked])) for case in wanted]
    at_zero = [follower.draw(case, 0.0) for case in wanted[:_SHOWN]]
    made = [follower.draw(case, 1.0) for case in wanted]
    figures: dict[str, object] = {"images": len(wanted)}
    for name, drawn in (("with", made), ("without", without)):
        for pixels in (1, 2):
            scores = [
                agreement(canny(p), case.edges, pixels)
                for p, case in zip(drawn, wanted, strict=True)
            ]
            figures[f"edge_f1_{name}_{pixels}px"] = round(float(np.mean(scores)), 3)
        coloured = [
            (p, c.asked.colour) for p, c in zip(drawn, wanted, strict=True) if c.asked.colour
        ]
        figures[f"colour_{name}"] = round(share([dominant_colour(p) == w for p, w in coloured]), 3)
    same = [np.array_equal(p, q) for p, q in zip(at_zero, without, strict=False)]
    figures["same_at_0"] = all(same)
    keep(a.out / "figures.json", "controlnet canny", figures)
    shown = range(_SHOWN)
    rows = [
        ("edges", [np.repeat(wanted[i].edges[..., None], 3, 2) for i in shown]),
        ("; ".join(wanted[i].asked.prompt for i in shown), [made[i] for i in shown]),
        ("the same without", [without[i] for i in shown]),
    ]
    sheet.write_rows(a.out / "controlnet-canny.png", rows)


if __name__ == "__main__":
    main()
