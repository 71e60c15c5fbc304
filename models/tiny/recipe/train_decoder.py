"""Sharpens the decoder on the training latents: ``python -m recipe.train_decoder``.

The encoder stays as it is, so the trained denoiser stays valid. The denoiser's own drawings (see
``drawn``), where there are some, and a little noise teach the decoder to forgive small errors.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from recipe import networks, workers
from recipe.data import BUILD, TrainingSet
from recipe.train_unet import Options
from recipe.train_vae import distance

_NOISE = 0.12
"""Most noise, where the latents themselves have variance 1."""
_SHARES = (0.35, 0.4, 0.1, 0.15)
"""Of true images, drawings, sketches and scenes."""
_SAVE_EVERY = 100


@dataclass(frozen=True, slots=True)
class Lesson:
    """Latents, and the images that they should become."""

    latents: torch.Tensor
    pixels: torch.Tensor
    """[n, 3, 128, 128], uint8."""
    images: torch.Tensor
    """[latents]: index into ``pixels`` of each."""


def lessons(build: Path) -> list[Lesson]:
    """True images, the denoiser's drawings of them, sketches and scenes; those there are.

    There are no drawings of a denoiser that has hardly learnt to draw.
    """
    images = TrainingSet.load(build)
    pixels = _channels_first(torch.from_numpy(images.pixels))
    kept = torch.tensor([i for i, record in enumerate(images.records) if not record.held])
    latents = torch.load(build / "latents.pt", weights_only=True)["latents"]
    found = [Lesson(latents[kept], pixels, kept)]
    if (build / "replay.pt").exists():
        drawn = torch.load(build / "replay.pt", weights_only=True)
        if len(drawn["latents"]):
            found.append(Lesson(drawn["latents"], pixels, drawn["images"]))
    for name in ("sketch.pt", "scenes.pt"):
        if (build / name).exists():
            stored = torch.load(build / name, weights_only=True, mmap=True)
            shown = _channels_first(stored["pixels"])
            found.append(Lesson(stored["latents"], shown, torch.arange(len(shown))))
    return found


def _channels_first(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.permute(0, 3, 1, 2)


def batch(
    taught: list[Lesson], size: int, draw: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents with a little noise, and images in -1..1."""
    shares = torch.tensor(_SHARES[: len(taught)])
    latents, wanted = [], []
    for number in torch.multinomial(shares, size, replacement=True, generator=draw).tolist():
        lesson = taught[number]
        one = int(torch.randint(len(lesson.latents), (), generator=draw))
        latents.append(lesson.latents[one])
        wanted.append(lesson.pixels[lesson.images[one]])
    clean = torch.stack(latents)
    spread = _NOISE * torch.rand(size, 1, 1, 1, generator=draw)
    noisy = clean + spread * torch.randn(clean.shape, generator=draw)
    return noisy, torch.stack(wanted).float() / 127.5 - 1


def train(options: Options) -> None:
    """One worker's share of the training; resumes where the last run stopped."""
    vae = AutoencoderKL.from_pretrained(options.build / "vae")
    trainer = decoder_trainer(vae)
    checkpoint = options.build / "decoder.pt"
    if checkpoint.exists():
        trainer.restore(checkpoint, keep_step=not options.restart)
    taught = lessons(options.build)

    def loss_at(step: int) -> torch.Tensor:
        noisy, wanted = batch(taught, options.batch, workers.generator(options.seed, step))
        with torch.autocast("cpu", torch.bfloat16):
            made = vae.decode(noisy / networks.SCALING).sample
        return distance(made.float(), wanted)

    workers.run(
        trainer, options.schedule, loss_at, checkpoint, images=options.batch, every=_SAVE_EVERY
    )


def decoder_trainer(vae: AutoencoderKL) -> workers.Trainer:
    """The decoder's parameters alone."""
    vae.requires_grad_(requires_grad=False)
    for part in (vae.decoder, vae.post_quant_conv):
        part.requires_grad_(requires_grad=True)
    return workers.Trainer([vae], mean_decay=0.995)


def main() -> None:
    """Train, or go on training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--batch", type=int, default=4, help="images a worker and step")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--restart", action="store_true", help="start the schedule again")
    a = parser.parse_args()
    schedule = workers.Schedule(steps=a.steps, rate=a.rate, warm_up=50)
    options = Options(
        build=a.build, schedule=schedule, batch=a.batch, seed=a.seed, restart=a.restart
    )
    workers.launch(train, a.workers, options)


if __name__ == "__main__":
    main()
