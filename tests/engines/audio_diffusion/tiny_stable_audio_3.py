"""Writes a Stable Audio 3 that is small and random, and makes audio with diffusers' own pipelines."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import (
    AutoencoderSAME,
    FlowMatchEulerDiscreteScheduler,
    StableAudio3AudioToAudioPipeline,
    StableAudio3DiTModel,
    StableAudio3InpaintPipeline,
    StableAudio3Pipeline,
)
from diffusers.pipelines.stable_audio_3.modeling_stable_audio_3 import StableAudio3DurationEmbedder
from numpy.typing import NDArray
from transformers import T5GemmaConfig, T5GemmaEncoderModel
from transformers.models.t5gemma.configuration_t5gemma import T5GemmaModuleConfig

from atelier_engines.local.random_numbers import make_generator
from atelier_engines.stable_audio_3.config import StableAudio3Config
from atelier_engines.task import AudioTask
from tests.engines.audio_diffusion import tiny_t5
from tests.engines.audio_diffusion.tiny_tangoflux import begin, cut

HOP, RATE = 4096, 44100
MAX_SECONDS = 2.4
_LATENT_WIDTH, _WIDTH = 8, 32
_SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "num_train_timesteps": 1,
    "shift": 1.0,
    "stochastic_sampling": True,
}


@dataclass(frozen=True, kw_only=True)
class TinyStableAudio3:
    """The directory, and the same parts in diffusers' pipelines."""

    folder: Path
    parts: dict[str, Any]

    def config(self, **settings: object) -> StableAudio3Config:
        """Settings of an engine that runs it."""
        return StableAudio3Config.model_validate(
            {"model": str(self.folder), "device": "cpu", "accept_license": True, **settings}
        )

    def compose(self, task: AudioTask) -> NDArray[np.float32]:
        """The task's clip by the pipeline that is for it, all latents decoded, then cut; (samples, channels)."""
        given: dict[str, Any] = {"guidance_scale": task.guidance}
        kind: Callable[..., Any] = StableAudio3Pipeline
        if task.negative_prompt:
            given["negative_prompt"] = task.negative_prompt
        if task.init_audio is not None:
            wave = torch.from_numpy(task.init_audio.array.T.copy())[None]
            given, kind = {"audio": wave}, StableAudio3AudioToAudioPipeline
            if task.continuation:
                count = round(task.duration_seconds * RATE)
                mirrored = torch.cat([wave, wave.flip(2)], dim=2)
                mask = torch.zeros(1, 1, -(-count // HOP))
                mask[:, :, : wave.shape[2] // HOP] = 1
                given, kind = {"audio": mirrored, "mask": mask}, StableAudio3InpaintPipeline
        with torch.no_grad():
            return self._run(kind, task, given)

    def _run(
        self, kind: Callable[..., Any], task: AudioTask, given: dict[str, Any]
    ) -> NDArray[np.float32]:
        pipeline = kind(
            **self.parts, scheduler=FlowMatchEulerDiscreteScheduler.from_config(_SCHEDULER)
        )
        pipeline.set_progress_bar_config(disable=True)
        latents = pipeline(
            task.prompt,
            duration=task.duration_seconds,
            num_inference_steps=task.steps,
            generator=make_generator(task.seed),
            output_type="latent",
            **given,
        ).audios
        made = self.parts["vae"].decode(latents).sample[0]
        if task.continuation and task.init_audio is not None:
            array = task.init_audio.array
            made = begin(made, array, len(array) // HOP * HOP, HOP)
        return cast("NDArray[np.float32]", cut(made, round(task.duration_seconds * RATE)))


def write(folder: Path) -> TinyStableAudio3:
    """The model, the same every time."""
    torch.manual_seed(16)
    parts: dict[str, Any] = {
        "vae": AutoencoderSAME(
            patch_size=256,
            encoder_channels=16,
            encoder_c_mults=[2],
            encoder_strides=[16],
            encoder_transformer_depths=[2],
            latent_dim=_LATENT_WIDTH,
            dim_heads=16,
        ),
        "text_encoder": _text_encoder(),
        "tokenizer": tiny_t5.tokenizer(16),
        "duration_embedder": StableAudio3DurationEmbedder(
            output_dim=_WIDTH, fourier_dim=16, max_val=MAX_SECONDS
        ),
        "transformer": StableAudio3DiTModel(
            io_channels=_LATENT_WIDTH,
            embed_dim=32,
            depth=2,
            num_heads=2,
            cond_token_dim=_WIDTH,
            global_cond_dim=_WIDTH,
            local_add_cond_dim=_LATENT_WIDTH + 1,
            timestep_features_dim=16,
            ff_mult=2,
            num_memory_tokens=3,
        ),
    }
    for part in ("vae", "transformer", "duration_embedder"):
        _fill(parts[part])
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(_SCHEDULER))
    return TinyStableAudio3(folder=folder, parts=parts)


def _fill(module: torch.nn.Module) -> None:
    """Random numbers in place of the zeros with which much of it begins; evaluation mode."""
    module.eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any() or parameter.abs().max() < 1e-3:
                parameter.normal_(std=0.2)


def _text_encoder() -> T5GemmaEncoderModel:
    layer = T5GemmaModuleConfig(
        vocab_size=64,
        hidden_size=_WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=8,
        query_pre_attn_scalar=8,
    )
    config = T5GemmaConfig(encoder=layer, decoder=layer, is_encoder_decoder=False, vocab_size=64)
    made = T5GemmaEncoderModel(config)
    made.train(mode=False)
    return made
