"""Draws what the LoRA learns from: ``python -m recipe.sketch``: the flat drawings in pencil."""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from recipe import captions, latents, networks
from recipe.data import BUILD, TrainingSet

_SHADE, _INK = 0.25, 0.85


def sketch(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The drawing's lines in dark pencil and its colours as pale greys, on white: [h, w, 3]."""
    drawing = image.astype(np.float32) / 255
    steps = cv2.morphologyEx(drawing, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).max(axis=2)
    lines = np.clip(1.5 * steps, 0, 1)
    greys = cv2.cvtColor(drawing, cv2.COLOR_RGB2GRAY)
    page = (1 - (1 - greys) * _SHADE) * (1 - lines * _INK)
    return np.asarray(np.round(255 * np.repeat(page[..., None], 3, axis=2)), np.uint8)


def main() -> None:
    """Transform, encode, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    a = parser.parse_args()
    images = TrainingSet.load(a.build)
    kept = [
        i
        for i, record in enumerate(images.records)
        if record.style == captions.USUAL_STYLE and record.placement == 0 and not record.held
    ]
    pixels = np.stack([sketch(images.pixels[i]) for i in kept])
    vae = AutoencoderKL.from_pretrained(a.build / "vae").eval()
    torch.save(
        {
            "latents": latents.encode(vae, pixels) * networks.SCALING,
            "pixels": torch.from_numpy(pixels),
            "images": torch.tensor(kept),
        },
        a.build / "sketch.pt",
    )
    print(f"{len(kept)} sketches")


if __name__ == "__main__":
    main()
