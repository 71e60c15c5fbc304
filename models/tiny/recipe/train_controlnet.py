"""Trains the ControlNet "canny" on the frozen weights: ``python -m recipe.train_controlnet``."""

import argparse
import random
from pathlib import Path

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch.nn.attention import SDPBackend, sdpa_kernel

from recipe import networks, workers
from recipe.data import BUILD
from recipe.export import CONTROLNETS, WEIGHTS
from recipe.frozen import Frozen
from recipe.noise import Noised
from recipe.train_unet import Options

_ZEROS = 0.15
_SAVE_EVERY = 150


def new(unet: UNet2DConditionModel) -> ControlNetModel:
    """A copy of the denoiser's first half, which adds nothing yet.

    Its eye for the image is narrower than SDXL's: 96 channels at most.
    """
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 32, 64, 96))


def trainer_of(control: ControlNetModel) -> workers.Trainer:
    """All its parameters."""
    return workers.Trainer([control], mean_decay=0.995)


class Outlines:
    """Draws scenes: latents, the edges that they were drawn by, and captions."""

    def __init__(self, build: Path) -> None:
        stored = torch.load(build / "scenes.pt", weights_only=True, mmap=True)
        self._latents, self._edges = stored["latents"], stored["edges"]
        self._captions: list[str] = stored["captions"]

    def draw(self, count: int, rng: random.Random) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """Latents [count, 4, 16, 16], edges [count, 3, 128, 128] in 0..1, captions."""
        chosen = rng.choices(range(len(self._captions)), k=count)
        edges = (self._edges[chosen].float() / 255)[:, None].repeat(1, 3, 1, 1)
        return self._latents[chosen], edges, [self._captions[i] for i in chosen]


def train(options: Options, weights: Path) -> None:
    """One worker's share of the training; resumes where the last run stopped."""
    torch.manual_seed(options.seed)
    frozen, outlines = Frozen(weights), Outlines(options.build)
    control = new(frozen.unet)
    control.set_attn_processor(AttnProcessor())
    trainer = trainer_of(control)
    checkpoint = options.build / "controlnet.pt"
    if checkpoint.exists():
        trainer.restore(checkpoint, keep_step=not options.restart)
    shares = networks.signal_shares()

    def loss_at(step: int) -> torch.Tensor:
        draw = workers.generator(options.seed, step)
        clean, edges, said = outlines.draw(options.batch, random.Random(draw.initial_seed()))
        noised = Noised.draw(clean, shares, draw)
        told = frozen.condition(said, _ZEROS, draw)
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            down, middle = control(
                noised.latents,
                noised.moments,
                encoder_hidden_states=told.sequence,
                controlnet_cond=edges,
                added_cond_kwargs=told.added,
                return_dict=False,
            )
            predicted = frozen.unet(
                noised.latents,
                noised.moments,
                told.sequence,
                added_cond_kwargs=told.added,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
            ).sample
            return noised.loss(predicted)

    workers.run(
        trainer,
        options.schedule,
        loss_at,
        checkpoint,
        images=options.batch,
        every=_SAVE_EVERY,
    )


def export(build: Path, weights: Path, folder: Path) -> None:
    """Write the running mean of its weights in fp16, as diffusers loads it."""
    control = new(Frozen(weights).unet)
    trainer = trainer_of(control)
    trainer.restore(build / "controlnet.pt")
    trainer.use_mean()
    control.half().save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)
        print(f"{file.stat().st_size / 1e6:.1f} MB in {file}")


def main() -> None:
    """Train, or go on training, and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--controlnets", type=Path, default=CONTROLNETS)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--batch", type=int, default=16, help="images a worker and step")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--restart", action="store_true", help="start the schedule again")
    a = parser.parse_args()
    schedule = workers.Schedule(steps=a.steps, rate=a.rate, warm_up=100)
    options = Options(
        build=a.build, schedule=schedule, batch=a.batch, seed=a.seed, restart=a.restart
    )
    workers.launch(train, a.workers, options, a.weights)
    export(a.build, a.weights, a.controlnets / "canny")


if __name__ == "__main__":
    main()
