"""Trains the autoencoder on the drawn images: ``python -m recipe.train_vae``."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from recipe import networks, workers
from recipe.data import BUILD, EXTRA, TrainingSet

_SHIFT = 6
_KL = 1e-4
_COLOUR = 0.5
_SAVE_EVERY = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What one run does."""

    build: Path
    schedule: workers.Schedule
    batch: int
    seed: int


def pool(build: Path) -> torch.Tensor:
    """The training images of one folder: [n, 3, 128, 128], uint8."""
    images = TrainingSet.load(build)
    kept = [i for i, record in enumerate(images.records) if not record.held]
    return torch.from_numpy(images.pixels[kept]).permute(0, 3, 1, 2).contiguous()


def batch(
    pools: tuple[torch.Tensor, torch.Tensor], size: int, random: torch.Generator
) -> torch.Tensor:
    """TrainingSet drawn at random and moved a few pixels on their white ground."""
    drawn = []
    for _ in range(size):
        pool = pools[int(torch.rand((), generator=random) < 1 / 3)]
        image = pool[int(torch.randint(len(pool), (), generator=random))]
        across, down = torch.randint(-_SHIFT, _SHIFT + 1, (2,), generator=random).tolist()
        drawn.append(image.roll((down, across), (1, 2)))
    return torch.stack(drawn).float() / 127.5 - 1


def distance(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """How far an image is from the wanted one.

    Absolute differences of pixels and of their steps to the right and down make it crisp; without
    the squared ones, of the pixels and of 8x8 means, colours are learnt very late.
    """
    loss = functional.l1_loss(made, wanted) + functional.mse_loss(made, wanted)
    coarse, wanted_coarse = functional.avg_pool2d(made, 8), functional.avg_pool2d(wanted, 8)
    loss = loss + 4 * functional.mse_loss(coarse, wanted_coarse)
    for axis in (2, 3):
        loss = loss + 0.7 * functional.l1_loss(made.diff(dim=axis), wanted.diff(dim=axis))
    return loss


def colour_residual(latents: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """What the best linear guess from the latents leaves of the colours of 8x8 squares.

    It keeps each colour axis strong in the latents, where the denoiser can hit it, and makes
    previews by one small matrix good.
    """
    known = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    known = torch.cat([known, torch.ones(len(known), 1)], dim=1)
    colours = functional.avg_pool2d(wanted, 8).permute(0, 2, 3, 1).reshape(-1, 3)
    square = known.T @ known + 1e-2 * torch.eye(known.shape[1])
    guess = known @ torch.linalg.solve(square, known.T @ colours)
    return functional.mse_loss(guess, colours)


def loss_of(vae: AutoencoderKL, wanted: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Reconstruction and a little pull of the latents towards a normal distribution."""
    with torch.autocast("cpu", torch.bfloat16):
        latents = vae.encode(wanted).latent_dist
        made = vae.decode(latents.sample(random)).sample
    kl: torch.Tensor = latents.kl().mean() / latents.mean[0].numel()
    linear = colour_residual(latents.mean.float(), wanted)
    return distance(made.float(), wanted) + _KL * kl + _COLOUR * linear


def train(options: Options) -> None:
    """One worker's share of the training; resumes where the last run stopped."""
    torch.manual_seed(options.seed)
    vae = networks.autoencoder()
    trainer = workers.Trainer([vae], mean_decay=0.998)
    checkpoint = options.build / "vae.pt"
    if checkpoint.exists():
        trainer.restore(checkpoint)
    pools = (pool(options.build), pool(options.build / EXTRA))
    log = workers.Log(options.build / "vae.jsonl", every=50)
    while trainer.step < options.schedule.steps:
        random = workers.generator(options.seed, trainer.step)
        loss = loss_of(vae, batch(pools, options.batch, random), random)
        trainer.update(loss, options.schedule.at(trainer.step))
        log.add(trainer.step, loss.item(), options.batch * workers.world())
        if trainer.step % _SAVE_EVERY == 0 or trainer.step == options.schedule.steps:
            workers.save(checkpoint, trainer)


def main() -> None:
    """Train, or go on training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=4, help="images a worker and step")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    schedule = workers.Schedule(steps=a.steps, rate=a.rate, warm_up=100)
    options = Options(build=a.build, schedule=schedule, batch=a.batch, seed=a.seed)
    workers.launch(train, a.workers, options)


if __name__ == "__main__":
    main()
