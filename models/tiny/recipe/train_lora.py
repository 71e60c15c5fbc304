"""Trains the LoRA "sketch" on the frozen weights: ``python -m recipe.train_lora``."""

import argparse
import random
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict
from torch.nn.attention import SDPBackend, sdpa_kernel

from recipe import captions, concepts, networks, workers
from recipe.data import BUILD, TrainingSet
from recipe.export import LORAS, WEIGHTS
from recipe.frozen import Frozen
from recipe.noise import Noised
from recipe.train_unet import Options

RANK = 8
LAYERS = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
    "time_emb_proj", "conv1", "conv2",
)  # fmt: skip
"""Of the denoiser: its attention, its feed-forward layers, and the convolutions about them."""

_ZEROS = 0.08
_SAVE_EVERY = 100


class Sketches:
    """Draws captions of the plain drawings with the sketches' latents."""

    def __init__(self, build: Path) -> None:
        stored = torch.load(build / "sketch.pt", weights_only=True)
        records = TrainingSet.load(build).records
        self._latents = stored["latents"]
        self._records = [records[i] for i in stored["images"].tolist()]
        self._weights = captions.weights(self._records)
        self._concepts = {c.name: c for c in concepts.load(*concepts.TABLES)}

    def draw(self, count: int, rng: random.Random) -> tuple[torch.Tensor, list[str]]:
        """Latents [count, 4, 16, 16] and captions, which do not speak of the sketch."""
        chosen = rng.choices(range(len(self._records)), self._weights, k=count)
        shown = [self._records[i] for i in chosen]
        said = [captions.caption(one, self._concepts[one.concept], rng) for one in shown]
        return self._latents[chosen], said


def add(unet: UNet2DConditionModel) -> None:
    """Put untrained adapters, which change nothing yet, on the layers."""
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(LAYERS)))


def trainer_of(unet: UNet2DConditionModel) -> workers.Trainer:
    """The adapters' parameters alone."""
    return workers.Trainer([unet], mean_decay=0.99)


def train(options: Options, weights: Path) -> None:
    """One worker's share of the training; resumes where the last run stopped."""
    torch.manual_seed(options.seed)
    frozen, sketches = Frozen(weights), Sketches(options.build)
    add(frozen.unet)
    trainer = trainer_of(frozen.unet)
    checkpoint = options.build / "lora.pt"
    if checkpoint.exists():
        trainer.restore(checkpoint, keep_step=not options.restart)
    shares = networks.signal_shares()

    def loss_at(step: int) -> torch.Tensor:
        draw = workers.generator(options.seed, step)
        clean, said = sketches.draw(options.batch, random.Random(draw.initial_seed()))
        noised = Noised.draw(clean, shares, draw)
        told = frozen.condition(said, _ZEROS, draw)
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            predicted = frozen.unet(
                noised.latents, noised.moments, told.sequence, added_cond_kwargs=told.added
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
    """Write ``pytorch_lora_weights.safetensors`` in fp16, as diffusers loads it."""
    unet = Frozen(weights).unet
    add(unet)
    trainer = trainer_of(unet)
    trainer.restore(build / "lora.pt")
    trainer.use_mean()
    state = get_peft_model_state_dict(unet)
    layers = {name: value.half().contiguous() for name, value in state.items()}
    StableDiffusionXLPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)
        print(f"{file.stat().st_size / 1e6:.1f} MB in {file}")


def main() -> None:
    """Train, or go on training, and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--loras", type=Path, default=LORAS)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=16, help="images a worker and step")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--restart", action="store_true", help="start the schedule again")
    a = parser.parse_args()
    schedule = workers.Schedule(steps=a.steps, rate=a.rate, warm_up=50)
    options = Options(
        build=a.build, schedule=schedule, batch=a.batch, seed=a.seed, restart=a.restart
    )
    workers.launch(train, a.workers, options, a.weights)
    export(a.build, a.weights, a.loras / "sketch")


if __name__ == "__main__":
    main()
