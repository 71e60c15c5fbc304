"""Encodes the images once, so that training the denoiser does no autoencoder work."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import nn

from recipe import networks, workers
from recipe.data import BUILD, TrainingSet

_BATCH = 16


@dataclass(frozen=True, slots=True)
class Preview:
    """A linear guess of the image from the denoiser's latents: rgb = latent @ factors + bias."""

    factors: torch.Tensor
    """[4, 3]."""
    bias: torch.Tensor
    """[3]; the result is in 0..1, one value an 8x8 square of the image."""


def trained_autoencoder(checkpoint: Path) -> AutoencoderKL:
    """The autoencoder with the running mean of its weights, latents not yet normalised."""
    vae = networks.autoencoder()
    trainer = workers.Trainer([vae], mean_decay=0.0)
    trainer.restore(checkpoint)
    trainer.use_mean()
    return vae.eval()


@torch.inference_mode()
def encode(vae: AutoencoderKL, images: NDArray[np.uint8]) -> torch.Tensor:
    """[n, 4, 16, 16] of [n, 128, 128, 3] sRGB, before the scaling factor."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    chunks = [
        vae.encode(chunk.float() / 127.5 - 1).latent_dist.mean for chunk in pixels.split(_BATCH)
    ]
    return torch.cat(chunks)


@torch.no_grad()
def normalise(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    """Fold the latents' mean and spread into the autoencoder, so that SDXL's factor is exact.

    After it, latents times ``networks.SCALING`` have mean 0 and variance 1 in every channel. The
    convolutions about the latents are 1x1, so the change is exact. Returns the new latents.
    """
    mean = latents.mean(dim=(0, 2, 3))
    gain = 1 / (latents.std(dim=(0, 2, 3)) * networks.SCALING)
    quant, post = vae.quant_conv, vae.post_quant_conv
    if not isinstance(quant, nn.Conv2d) or not isinstance(post, nn.Conv2d):
        raise TypeError("the autoencoder needs its two 1x1 convolutions about the latents")
    if quant.bias is None or post.bias is None:
        raise TypeError("the 1x1 convolutions about the latents need a bias")
    post.bias += torch.einsum("oihw,i->o", post.weight, mean)
    post.weight /= gain.view(1, -1, 1, 1)
    quant.bias[:4] = (quant.bias[:4] - mean) * gain
    quant.weight[:4] *= gain.view(-1, 1, 1, 1)
    quant.bias[4:] += 2 * gain.log()
    return (latents - mean.view(1, -1, 1, 1)) * gain.view(1, -1, 1, 1)


def preview(latents: torch.Tensor, images: TrainingSet) -> Preview:
    """Least squares from the latents, as the denoiser sees them, to the image's 8x8 means."""
    pixels = torch.from_numpy(images.pixels).permute(0, 3, 1, 2).float() / 255
    wanted = nn.functional.avg_pool2d(pixels, 8).permute(0, 2, 3, 1).reshape(-1, 3)
    known = (latents * networks.SCALING).permute(0, 2, 3, 1).reshape(-1, 4)
    known = torch.cat([known, torch.ones(len(known), 1)], dim=1)
    solution = torch.linalg.lstsq(known, wanted).solution
    return Preview(solution[:4], solution[4])


def main() -> None:
    """Normalise the autoencoder, encode the images, store both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--refresh", action="store_true", help="keep the normalised autoencoder")
    arguments = parser.parse_args()
    build: Path = arguments.build
    images = TrainingSet.load(build)
    if arguments.refresh:
        vae = AutoencoderKL.from_pretrained(build / "vae").eval()
        latents = encode(vae, images.pixels)
    else:
        vae = trained_autoencoder(build / "vae.pt")
        latents = normalise(vae, encode(vae, images.pixels))
        vae.save_pretrained(build / "vae")
    guess = preview(latents, images)
    torch.save(
        {
            "latents": latents * networks.SCALING,
            "preview_factors": guess.factors,
            "preview_bias": guess.bias,
        },
        build / "latents.pt",
    )
    print(f"{len(latents)} latents, spread {float((latents * networks.SCALING).std()):.4f}")


if __name__ == "__main__":
    main()
