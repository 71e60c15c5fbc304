"""Judges weights and draws their contact sheet: ``python -m recipe.evaluate``.

Four figures: how often the nearest training image shows the asked concept (``top1``, ``top5``),
how often the dominant colour is the asked one, and how often captions that training never saw are
drawn rightly: objects in a colour they were never shown in, and wordings never used.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline
from numpy.typing import NDArray

from recipe import captions, concepts, sheet
from recipe.classifier import Classifier, dominant_colour, share
from recipe.colours import PALETTE
from recipe.data import BUILD, TrainingSet
from recipe.export import WEIGHTS
from recipe.held_out import held_out

HERE = Path(__file__).parents[1]
"""Where figures and sheets are committed."""

Figures = dict[str, object]
_BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One image to draw, and what it must show."""

    prompt: str
    concept: str
    colour: str | None
    seed: int


class Renderer:
    """Draws prompts with a weights folder, as any user of diffusers would."""

    def __init__(self, weights: Path, *, steps: int, guidance: float) -> None:
        self._pipeline = StableDiffusionXLPipeline.from_pretrained(
            weights, torch_dtype=torch.float32
        )
        self._pipeline.set_progress_bar_config(disable=True)
        self._steps, self._guidance = steps, guidance

    def draw(self, asked: Sequence[Asked]) -> Iterator[NDArray[np.uint8]]:
        """[128, 128, 3] for each, in order."""
        for start in range(0, len(asked), _BATCH):
            group = asked[start : start + _BATCH]
            images = self._pipeline(
                [one.prompt for one in group],
                generator=[torch.Generator().manual_seed(one.seed) for one in group],
                num_inference_steps=self._steps,
                guidance_scale=self._guidance,
                height=128,
                width=128,
                output_type="np",
            ).images
            yield from (images * 255).round().astype(np.uint8)

    def set_lora(self, lora: Path) -> None:
        """Load a LoRA."""
        self._pipeline.load_lora_weights(lora, adapter_name="worn")

    def set_lora_weight(self, weight: float) -> None:
        """Set the worn LoRA's weight."""
        self._pipeline.set_adapters("worn", weight)

    def disable_lora(self) -> None:
        """Unload it."""
        self._pipeline.unload_lora_weights()

    def seconds_for_one(self) -> float:
        """The best of five runs for one image."""
        one = [Asked(prompt="a red heart", concept="heart", colour="red", seed=0)]
        times = []
        for _ in range(5):
            started = time.perf_counter()
            list(self.draw(one))
            times.append(time.perf_counter() - started)
        return min(times)


def recall(
    renderer: Renderer,
    classifier: Classifier,
    known: Sequence[concepts.Concept],
    styles: Sequence[str],
    seeds: int,
) -> dict[str, object]:
    """top1, top5 and style over all concepts and styles, and what fails how often."""
    asked = [
        Asked(prompt=named(c.name, style), concept=c.name, colour=None, seed=seed)
        for style in styles
        for c in known
        for seed in range(seeds)
    ]
    asked_styles = [style for style in styles for _ in range(len(known) * seeds)]
    drawn = list(renderer.draw(asked))
    found = [classifier.concepts(image, 5) for image in drawn]
    first = [one.concept == names[0] for one, names in zip(asked, found, strict=True)]
    five = [one.concept in names for one, names in zip(asked, found, strict=True)]
    right = [classifier.style(p) == style for p, style in zip(drawn, asked_styles, strict=True)]
    figures: dict[str, object] = {
        "top1": round(share(first), 3),
        "top5": round(share(five), 3),
        "images": len(asked),
    }
    for style in styles:
        mine = [i for i, said in enumerate(asked_styles) if said == style]
        figures[style] = {
            "top1": round(share([first[i] for i in mine]), 3),
            "top5": round(share([five[i] for i in mine]), 3),
            "style": round(share([right[i] for i in mine]), 3),
        }
    missed = Counter(one.prompt for one, ok in zip(asked, first, strict=True) if not ok)
    return {**figures, "weak": {p: round(1 - n / seeds, 2) for p, n in missed.most_common()}}


def named(concept: str, style: str) -> str:
    """The plainest prompt for it; the usual style goes without saying."""
    return f"a {concept}" if style == captions.USUAL_STYLE else f"a {concept}, {style} style"


def fair_pairs(images: TrainingSet, *, held: bool) -> list[tuple[str, str]]:
    """Concepts and colours whose true image is dominated by its colour.

    A yellow bus, for one, has more window than paint: no model could pass there.
    """
    return [
        (record.concept, record.colour)
        for record, pixels in zip(images.records, images.pixels, strict=True)
        if record.colour is not None
        and record.placement == 0
        and record.held == held
        and dominant_colour(pixels) == record.colour
    ]


def prompt_accuracy(
    renderer: Renderer, classifier: Classifier, images: TrainingSet, seeds: int
) -> dict[str, object]:
    """How often the asked colour dominates, and the asked concept is seen with it."""
    pairs = fair_pairs(images, held=False)
    asked = [
        Asked(prompt=f"a {colour} {name}", concept=name, colour=colour, seed=seed)
        for name, colour in pairs
        for seed in range(seeds)
    ]
    drawn = list(renderer.draw(asked))
    obeyed = [dominant_colour(p) == one.colour for one, p in zip(asked, drawn, strict=True)]
    shown = [
        classifier.concepts(p, 1)[0] == one.concept for one, p in zip(asked, drawn, strict=True)
    ]
    by_colour = {
        word: round(share([o for a, o in zip(asked, obeyed, strict=True) if a.colour == word]), 2)
        for word in PALETTE
    }
    return {
        "colour": round(share(obeyed), 3),
        "concept": round(share(shown), 3),
        "pairs": len(pairs),
        "by_colour": by_colour,
    }


def unseen(
    renderer: Renderer,
    classifier: Classifier,
    known: Sequence[concepts.Concept],
    images: TrainingSet,
    seeds: int,
) -> dict[str, object]:
    """Concept right and, where a colour is asked, colour right, on captions never trained."""
    fair = {*fair_pairs(images, held=False), *fair_pairs(images, held=True)}
    asked = [
        Asked(prompt=one.prompt, concept=one.concept, colour=one.colour, seed=seed)
        for one in held_out(known)
        for seed in range(seeds)
    ]
    right = [
        classifier.concepts(image, 1)[0] == one.concept
        and ((one.concept, one.colour) not in fair or dominant_colour(image) == one.colour)
        for one, image in zip(asked, renderer.draw(asked), strict=True)
    ]
    failed = Counter(one.prompt for one, ok in zip(asked, right, strict=True) if not ok)
    return {"right": round(share(right), 3), "images": len(asked), "failed": dict(failed)}


def judged(a: argparse.Namespace, steps: int, guidance: float, styles: list[str]) -> Figures:
    """All figures at so many steps."""
    images = TrainingSet.load(a.build)
    classifier, known = Classifier.from_images(images), concepts.load(*a.tables)
    renderer = Renderer(a.weights, steps=steps, guidance=guidance)
    return {
        "steps": steps,
        "guidance": guidance,
        "seconds_for_one": round(renderer.seconds_for_one(), 3),
        "recall": recall(renderer, classifier, known, styles, a.seeds),
        "prompt_accuracy": prompt_accuracy(renderer, classifier, images, max(1, a.seeds // 4)),
        "unseen": unseen(renderer, classifier, known, images, max(1, a.seeds // 2)),
    }


def keep(path: Path, name: str, figures: Figures) -> None:
    """Print the figures, and put them under their name into a file of such."""
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**known, name: figures}, indent=2) + "\n", "utf-8")
    print(json.dumps({name: figures}, indent=2), flush=True)


def write_sheets(renderer: Renderer, folder: Path, styles: Sequence[str]) -> None:
    """One for each style; that of the usual one has the colours too."""
    known = concepts.load(*concepts.DRAWN)
    for style in styles:
        usual = style == captions.USUAL_STYLE
        prompts = [named(concept.name, style) for concept in known]
        prompts += sheet.painted() if usual else []
        asked = [Asked(prompt=p, concept="", colour=None, seed=11) for p in prompts]
        labels = [p.removesuffix(f", {style} style") for p in prompts]
        name = "contact-sheet.png" if usual else f"contact-sheet-{style}.png"
        sheet.write(folder / name, labels, list(renderer.draw(asked)))


def main() -> None:
    """Write the figures and the contact sheets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--tables", nargs="+", default=[*concepts.DRAWN])
    parser.add_argument("--steps", type=int, nargs="*", default=[4, 8])
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of figures.json and sheets")
    a = parser.parse_args()
    settings = json.loads((a.weights / "atelier.json").read_text("utf-8"))
    guidance = settings["default_guidance"] if a.guidance is None else a.guidance
    renderer = Renderer(a.weights, steps=settings["default_steps"], guidance=guidance)
    write_sheets(renderer, a.out, settings["styles"])
    for steps in a.steps:
        figures = judged(a, steps, guidance, settings["styles"])
        keep(a.out / "figures.json", f"{steps} steps", figures)


if __name__ == "__main__":
    main()
