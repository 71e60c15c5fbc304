"""Sharpens the decoder on the training latents: ``python -m recipe.train_decoder``.

The encoder stays as it is, so the trained denoiser stays valid. The denoiser's own drawings (see
``drawn``), where there are some, and a little noise teach the decoder to forgive small errors.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from recipe import networks, workers
from recipe.data import BUILD, Pictures
from recipe.train_unet import Options
from recipe.train_vae import distance

_NOISE = 0.12
"""Most noise, where the latents themselves have variance 1."""
_SAVE_EVERY = 250


def train(options: Options) -> None:
    """One worker's share of the training; resumes where the last run stopped."""
    vae = AutoencoderKL.from_pretrained(options.build / "vae")
    trainer = decoder_trainer(vae)
    checkpoint = options.build / "decoder.pt"
    if checkpoint.exists():
        trainer.restore(checkpoint, keep_step=not options.restart)
    pictures = Pictures.load(options.build)
    kept = torch.tensor([i for i, record in enumerate(pictures.records) if not record.held])
    pixels = torch.from_numpy(pictures.pixels).permute(0, 3, 1, 2)
    latents = torch.load(options.build / "latents.pt", weights_only=True)["latents"][kept]
    if (options.build / "drawn.pt").exists():
        drawn = torch.load(options.build / "drawn.pt", weights_only=True)
        latents, kept = torch.cat([latents, drawn["latents"]]), torch.cat([kept, drawn["pictures"]])
    log = workers.Log(options.build / "decoder.jsonl", every=50)
    while trainer.step < options.schedule.steps:
        draw = workers.generator(options.seed, trainer.step)
        chosen = torch.randint(len(kept), (options.batch,), generator=draw)
        spread = _NOISE * torch.rand(options.batch, 1, 1, 1, generator=draw)
        noisy = latents[chosen] + spread * torch.randn(latents[chosen].shape, generator=draw)
        with torch.autocast("cpu", torch.bfloat16):
            made = vae.decode(noisy / networks.SCALING).sample
        loss = distance(made.float(), pixels[kept[chosen]].float() / 127.5 - 1)
        trainer.update(loss, options.schedule.at(trainer.step))
        log.add(trainer.step, loss.item(), options.batch * workers.world())
        if trainer.step % _SAVE_EVERY == 0 or trainer.step == options.schedule.steps:
            workers.save(checkpoint, trainer)


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
    parser.add_argument("--batch", type=int, default=4, help="pictures a worker and step")
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
