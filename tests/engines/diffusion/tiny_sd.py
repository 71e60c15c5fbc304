"""Writes Stable Diffusion 1.5 and 2.1 models that are small and random, and the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel

from tests.engines.diffusion.tiny_sdxl import tokenizer

Kind = Literal["sd15", "sd21"]

_WIDTH = 32
_SIDE = 64
_BETAS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def write(folder: Path, kind: Kind, *, channels: int = 4) -> Path:
    """A model directory with images of 64 pixels and latent cells of 8."""
    torch.manual_seed(21)
    words = tokenizer(folder / "words", "<|endoftext|>" if kind == "sd15" else "!")
    pipeline = StableDiffusionPipeline(
        vae=_autoencoder(),
        text_encoder=CLIPTextModel(_text(kind, len(words))),
        tokenizer=words,
        unet=_denoiser(kind, channels),
        scheduler=_scheduler(kind),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    model = folder / kind
    pipeline.save_pretrained(model)
    return model


def _scheduler(kind: Kind) -> PNDMScheduler | DDIMScheduler:
    """What the originals come with; that of 2.1 is for velocity."""
    if kind == "sd15":
        return PNDMScheduler(skip_prk_steps=True, **_BETAS)
    return DDIMScheduler(clip_sample=False, prediction_type="v_prediction", **_BETAS)


def _autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=_SIDE,
        scaling_factor=0.18215,
    )


def _denoiser(kind: Kind, channels: int) -> UNet2DConditionModel:
    """Four levels as in the originals; 2.1 has linear projections, and heads by level."""
    return UNet2DConditionModel(
        sample_size=_SIDE // 8,
        in_channels=channels,
        block_out_channels=(16, 32, 32, 32),
        layers_per_block=1,
        cross_attention_dim=_WIDTH,
        attention_head_dim=2 if kind == "sd15" else (1, 2, 2, 2),
        use_linear_projection=kind == "sd21",
        upcast_attention=kind == "sd21",
        norm_num_groups=8,
    )


def _text(kind: Kind, vocabulary: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=_WIDTH,
        intermediate_size=_WIDTH * 2,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=77,
        hidden_act="quick_gelu" if kind == "sd15" else "gelu",
        projection_dim=_WIDTH,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
