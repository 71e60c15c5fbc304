"""Writes the trained weights as a diffusers folder: ``python -m recipe.export``."""

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline

from recipe import networks, tokenizer
from recipe.data import BUILD, TrainingSet
from recipe.train_decoder import decoder_trainer
from recipe.train_unet import Networks
from recipe.vocabulary import known_words

WEIGHTS = Path(__file__).parents[1] / "atelier_tiny" / "weights"
CONTROLNETS, LORAS = WEIGHTS.parent / "controlnets", WEIGHTS.parent / "loras"
DEFAULT_STEPS, DEFAULT_GUIDANCE = 4, 2.5


def trained_networks(checkpoint: Path, vocabulary: int) -> Networks:
    """The denoiser and text encoders with the running mean of their weights."""
    trained = Networks.new(vocabulary)
    trainer = trained.trainer()
    trainer.restore(checkpoint)
    trainer.use_mean()
    return trained


def trained_autoencoder(build: Path) -> AutoencoderKL:
    """The normalised autoencoder, with the sharpened decoder once there is one."""
    vae = AutoencoderKL.from_pretrained(build / "vae")
    if (build / "decoder.pt").exists():
        trainer = decoder_trainer(vae)
        trainer.restore(build / "decoder.pt")
        trainer.use_mean()
    return vae


def write_pipeline(build: Path, weights: Path) -> None:
    """All networks in fp16 with what diffusers needs to load them."""
    words = [tokenizer.load(build / name) for name in tokenizer.PADS]
    trained = trained_networks(build / "unet.pt", len(words[0]))
    vae = trained_autoencoder(build)
    pipeline = StableDiffusionXLPipeline(
        vae=vae.half(),
        text_encoder=trained.first.half(),
        text_encoder_2=trained.second.half(),
        tokenizer=words[0],
        tokenizer_2=words[1],
        unet=trained.unet.half(),
        scheduler=networks.scheduler(),
        add_watermarker=False,
    )
    pipeline.save_pretrained(weights)
    for file in weights.rglob("*.safetensors"):
        file.chmod(0o644)
    _forget_path(weights / "vae" / "config.json")
    for name in tokenizer.PADS:
        shutil.rmtree(weights / name)
        shutil.copytree(build / name, weights / name)


def _forget_path(config: Path) -> None:
    """Drop the folder that the network was loaded from, which diffusers notes in its settings."""
    settings = json.loads(config.read_text("utf-8"))
    settings.pop("_name_or_path", None)
    config.write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def write_defaults(build: Path, weights: Path) -> None:
    """``atelier.json``: what an engine that serves these weights need not guess."""
    stored = torch.load(build / "latents.pt", weights_only=True)
    factors, bias = (stored[f"preview_{name}"] for name in ("factors", "bias"))
    defaults = {
        "default_steps": DEFAULT_STEPS,
        "default_guidance": DEFAULT_GUIDANCE,
        "default_size": [128, 128],
        "native_side": [96, 160],
        "styles": sorted({record.style for record in TrainingSet.load(build).records}),
        "vocabulary": " ".join(known_words()),
        "preview_factors": [[round(v, 5) for v in row] for row in factors.tolist()],
        "preview_bias": [round(v, 5) for v in bias.tolist()],
    }
    (weights / "atelier.json").write_text(json.dumps(defaults, indent=2) + "\n", "utf-8")


def main() -> None:
    """Export the last checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=BUILD)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    write_pipeline(arguments.build, arguments.weights)
    write_defaults(arguments.build, arguments.weights)
    size = sum(file.stat().st_size for file in arguments.weights.rglob("*") if file.is_file())
    print(f"{size / 1e6:.1f} MB in {arguments.weights}")


if __name__ == "__main__":
    main()
