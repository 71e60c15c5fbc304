"""Generates every training image with the exported weights, as latents: ``python -m recipe.replay``.

The latents of the UNet differ slightly from the encoded training image. Decoders
that were trained only on the latter decode those differences as stains; ``train_decoder`` uses both.
"""

import argparse
import random
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline

from recipe import captions, concepts
from recipe.data import BUILD, TrainingImage, TrainingSet
from recipe.export import DEFAULT_GUIDANCE, DEFAULT_STEPS, WEIGHTS

_BATCH = 16


def draw(pipeline: StableDiffusionXLPipeline, said: list[str], seed: int) -> torch.Tensor:
    """[n, 4, 16, 16], as the denoiser leaves them."""
    latents: list[torch.Tensor] = [
        pipeline(
            said[start : start + _BATCH],
            generator=torch.Generator().manual_seed(seed + start),
            num_inference_steps=DEFAULT_STEPS,
            guidance_scale=DEFAULT_GUIDANCE,
            output_type="latent",
        ).images
        for start in range(0, len(said), _BATCH)
    ]
    return torch.cat(latents)


def nearest(
    made: torch.Tensor, shown: TrainingImage, records: list[TrainingImage], true: torch.Tensor
) -> tuple[int, float]:
    """The true image meant, in the placement that was drawn, and its mean squared distance."""
    same = [
        i
        for i, record in enumerate(records)
        if (record.concept, record.style, record.colour)
        == (shown.concept, shown.style, shown.colour)
    ]
    away = (true[same] - made).square().mean(dim=(1, 2, 3))
    return same[int(away.argmin())], float(away.min())


def main() -> None:
    """Draw, match, store; what came out far from every placement is left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--rounds", type=int, default=3, help="drawings of each image")
    parser.add_argument("--farthest", type=float, default=0.35, help="mean squared distance")
    a = parser.parse_args()
    records = TrainingSet.load(a.build).records
    known = {concept.name: concept for concept in concepts.load(*concepts.TABLES)}
    shown = [r for r in records if r.placement == 0 and not r.held] * a.rounds
    rng = random.Random(3)
    said = [captions.caption(record, known[record.concept], rng) for record in shown]
    pipeline = StableDiffusionXLPipeline.from_pretrained(a.weights, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    made = draw(pipeline, said, seed=5)
    true = torch.load(a.build / "latents.pt", weights_only=True)["latents"]
    matches = [nearest(one, record, records, true) for one, record in zip(made, shown, strict=True)]
    kept = [i for i, (_, away) in enumerate(matches) if away < a.farthest]
    meant = torch.tensor([matches[i][0] for i in kept])
    torch.save({"latents": made[kept], "images": meant}, a.build / "replay.pt")
    mean = sum(away for _, away in matches) / len(matches)
    print(f"{len(kept)} of {len(made)} drawings kept, mean squared distance {mean:.3f}")


if __name__ == "__main__":
    main()
