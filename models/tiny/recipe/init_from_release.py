"""Starts a build from released weights: ``python -m recipe.init_from_release``.

The autoencoder keeps its latents, the tokenizers their vocabulary; the UNet and both text
encoders go on from their weights, with a fresh optimiser and a fresh schedule.
"""

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from recipe import tokenizer, workers
from recipe.data import BUILD
from recipe.export import WEIGHTS
from recipe.frozen import load


def main() -> None:
    """Write the build's autoencoder, tokenizers and first checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    a = parser.parse_args()
    vae = AutoencoderKL.from_pretrained(a.weights / "vae", torch_dtype=torch.float32)
    vae.save_pretrained(a.build / "vae")
    for name in tokenizer.PADS:
        shutil.copytree(a.weights / name, a.build / name, dirs_exist_ok=True)
    workers.save(a.build / "unet.pt", load(a.weights).trainer())


if __name__ == "__main__":
    main()
