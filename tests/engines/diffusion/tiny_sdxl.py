"""Writes a Stable Diffusion XL model that is small and random, and the same every time."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

_WIDTHS = (32, 64)
_MERGES = ("r e", "re d</w>", "a p", "p le</w>", "l e</w>", "h e", "b l")
_START, _END = "<|startoftext|>", "<|endoftext|>"
_SIDE = 64


def write(
    folder: Path, *, prediction: str = "epsilon", variant: str | None = None, channels: int = 4
) -> Path:
    """A model directory with images of 64 pixels and latent cells of 8."""
    torch.manual_seed(20)
    words = folder / "words"
    first, second = tokenizer(words / "1", _END), tokenizer(words / "2", "!")
    pipeline = StableDiffusionXLPipeline(
        vae=_autoencoder(),
        text_encoder=CLIPTextModel(_text(_WIDTHS[0], len(first))),
        text_encoder_2=CLIPTextModelWithProjection(_text(_WIDTHS[1], len(first))),
        tokenizer=first,
        tokenizer_2=second,
        unet=_denoiser(channels),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type=prediction,
            timestep_spacing="trailing",
            steps_offset=1,
        ),
        add_watermarker=False,
    )
    model = folder / "model"
    pipeline.save_pretrained(model, variant=variant)
    return model


def _autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        mid_block_add_attention=False,
        sample_size=_SIDE,
        scaling_factor=0.13025,
        force_upcast=True,
    )


def _denoiser(channels: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        in_channels=channels,
        sample_size=_SIDE // 8,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=1,
        attention_head_dim=(1, 2, 2),
        cross_attention_dim=sum(_WIDTHS),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + _WIDTHS[1],
        use_linear_projection=True,
        norm_num_groups=8,
    )


def _text(width: int, vocabulary: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 2,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=_WIDTHS[1],
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )


def tokenizer(folder: Path, pad: str) -> CLIPTokenizer:
    """One that knows all bytes and few words, kept in a new `folder`."""
    letters = sorted(ByteLevel.alphabet())
    merged = [merge.replace(" ", "") for merge in _MERGES]
    words = [*letters, *(letter + "</w>" for letter in letters), *merged, _START, _END]
    folder.mkdir(parents=True)
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *_MERGES, ""]), "utf-8")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": _START,
        "eos_token": _END,
        "unk_token": _END,
        "pad_token": pad,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    made: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return made
