"""Trains the denoiser and both text encoders together: ``python -m recipe.train_unet``."""

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from recipe import captions, concepts, networks, tokenizer, workers
from recipe.data import BUILD, TrainingImage, TrainingSet
from recipe.noise import Noised, time_ids

_ZERO_SHARE, _EMPTY_SHARE = 0.06, 0.03
_NOISES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What one run does."""

    build: Path
    schedule: workers.Schedule
    batch: int
    """Captions a worker and step; each is used with ``_NOISES`` different noises."""
    seed: int
    restart: bool
    """Start the schedule again on the weights of the last checkpoint."""


@dataclass(frozen=True, slots=True)
class Networks:
    """What is trained together."""

    unet: UNet2DConditionModel
    first: CLIPTextModel
    second: CLIPTextModelWithProjection

    @staticmethod
    def new(vocabulary: int) -> "Networks":
        """Untrained ones for that many tokens."""
        return Networks(
            networks.denoiser(),
            networks.first_text_encoder(vocabulary),
            networks.second_text_encoder(vocabulary),
        )

    def trainer(self) -> workers.Trainer:
        """All their parameters as one vector, in a fixed order."""
        return workers.Trainer([self.unet, self.first, self.second], mean_decay=0.996)

    def embed(self, ids: torch.Tensor, ids_2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids, [n, 77] for each encoder, to the sequence [n, 77, 192] and pooled vector."""
        first = self.first(ids, output_hidden_states=True).hidden_states[-2]
        second = self.second(ids_2, output_hidden_states=True)
        return torch.cat([first, second.hidden_states[-2]], dim=-1), second.text_embeds


class Samples:
    """Draws captions with their latents."""

    def __init__(self, build: Path) -> None:
        images = TrainingSet.load(build)
        self._concepts = {c.name: c for c in concepts.load(*concepts.TABLES)}
        self._records: list[TrainingImage] = images.records
        self._weights = captions.weights(self._records)
        self._latents = torch.load(build / "latents.pt", weights_only=True)["latents"]
        self._words = tokenizer.Pair(build)
        self.vocabulary = self._words.vocabulary

    def draw(self, count: int, rng: random.Random) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Latents [count, 4, 16, 16] and the captions' ids for each encoder, [count, 77]."""
        chosen = rng.choices(range(len(self._records)), self._weights, k=count)
        said = [self._caption(self._records[index], rng) for index in chosen]
        return self._latents[chosen], self._words.ids(said)

    def _caption(self, image: TrainingImage, rng: random.Random) -> str:
        if rng.random() < _EMPTY_SHARE:
            return ""
        return captions.caption(image, self._concepts[image.concept], rng)


def loss_of(
    trained: Networks, samples: Samples, shares: torch.Tensor, options: Options, step: int
) -> torch.Tensor:
    """How far the predicted velocity is from the true one."""
    draw = workers.generator(options.seed, step)
    clean, (ids, ids_2) = samples.draw(options.batch, random.Random(draw.initial_seed()))
    noised = Noised.draw(clean.repeat(_NOISES, 1, 1, 1), shares, draw)
    count = len(noised.moments)
    keep = (torch.rand(count, generator=draw) >= _ZERO_SHARE).float()
    with torch.autocast("cpu", torch.bfloat16):
        sequence, pooled = trained.embed(ids, ids_2)
        predicted = trained.unet(
            noised.latents,
            noised.moments,
            sequence.repeat(_NOISES, 1, 1) * keep.view(-1, 1, 1),
            added_cond_kwargs={
                "text_embeds": pooled.repeat(_NOISES, 1) * keep.view(-1, 1),
                "time_ids": time_ids(count, draw),
            },
        ).sample
    return noised.loss(predicted)


def train(options: Options) -> None:
    """One worker's share of the training; resumes where the last run stopped.

    Attention is computed by plain matrix products: on a CPU, and for so few and small heads, they
    take half the time of the fused kernel's backward pass.
    """
    torch.manual_seed(options.seed)
    samples = Samples(options.build)
    trained = Networks.new(samples.vocabulary)
    trained.unet.set_attn_processor(AttnProcessor())
    trainer = trained.trainer()
    checkpoint = options.build / "unet.pt"
    if checkpoint.exists():
        trainer.restore(checkpoint, keep_step=not options.restart)
    shares = networks.signal_shares()

    def loss_at(step: int) -> torch.Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return loss_of(trained, samples, shares, options, step)

    workers.run(
        trainer, options.schedule, loss_at, checkpoint, images=options.batch * _NOISES, every=150
    )


def main() -> None:
    """Train, or go on training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--batch", type=int, default=12, help="captions a worker and step")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--restart", action="store_true", help="start the schedule again")
    a = parser.parse_args()
    schedule = workers.Schedule(steps=a.steps, rate=a.rate, warm_up=200)
    options = Options(
        build=a.build, schedule=schedule, batch=a.batch, seed=a.seed, restart=a.restart
    )
    workers.launch(train, a.workers, options)


if __name__ == "__main__":
    main()
