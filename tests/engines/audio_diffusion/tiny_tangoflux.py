"""Writes a TangoFlux that is small and random, in the published layout, and makes audio with its parts."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import AutoencoderOobleck, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioNumberConditioner
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from atelier_engines.local.random_numbers import make_generator
from atelier_engines.tangoflux.config import TangoFluxConfig
from atelier_engines.task import AudioTask, count_steps_left
from tests.engines.audio_diffusion import tiny_t5

LATENTS = 43
LATENT_WIDTH = 8
MAX_SECONDS = 2
HOP = 2048
RATE = 44100


@dataclass(frozen=True, kw_only=True)
class TinyTangoFlux:
    """The directory, and the same parts in memory."""

    folder: Path
    text_folder: Path
    tokenizer: PreTrainedTokenizerBase
    text_encoder: T5EncoderModel
    fc: torch.nn.Linear
    duration: StableAudioNumberConditioner
    denoiser: FluxTransformer2DModel
    autoencoder: AutoencoderOobleck

    @property
    def settings(self) -> dict[str, object]:
        """Settings of an engine that runs it."""
        return {
            "model": str(self.folder),
            "text_encoder": str(self.text_folder),
            "device": "cpu",
            "accept_license": True,
        }

    def config(self, **settings: object) -> TangoFluxConfig:
        """Those settings and these, as the engine takes them."""
        return TangoFluxConfig.model_validate({**self.settings, **settings})

    @torch.no_grad()
    def compose(self, task: AudioTask) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """The task's clip as the original program composes it: all latents decoded, then cut; (samples, channels)."""
        assert task.steps is not None
        assert task.guidance is not None
        guided = task.guidance > 1
        texts = [task.negative_prompt, task.prompt] if guided else [task.prompt]
        batch = self.tokenizer(texts, padding=True, return_tensors="pt")
        states = self.text_encoder(**batch)[0]
        hidden = torch.where(batch.attention_mask.bool()[..., None], states, torch.nan)
        pooled = torch.relu(self.fc(torch.nanmean(hidden, dim=1)))
        seconds = torch.tensor([task.duration_seconds])
        tokens = torch.cat([states, self.duration(seconds).repeat(len(texts), 1, 1)], dim=1)
        scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
        scheduler.set_timesteps(
            sigmas=np.linspace(1.0, 1 / task.steps, task.steps), device=torch.device("cpu")
        )
        latents = torch.randn(1, LATENTS, LATENT_WIDTH, generator=make_generator(task.seed))
        left = task.steps
        noise, given = latents.clone(), None
        if task.continuation:
            given = self._encode_mirrored(task)
        elif task.init_audio is not None:
            left = count_steps_left(task.steps, task.strength)
            scheduler.set_begin_index(task.steps - left)
            latents = (
                scheduler.scale_noise(
                    self._encode(task.init_audio.array), scheduler.timesteps[-left:][:1], latents
                )
                if left
                else self._encode(task.init_audio.array)
            )
        for time in scheduler.timesteps[task.steps - left :]:
            made = self.denoiser(
                hidden_states=torch.cat([latents] * len(texts)),
                timestep=torch.tensor([time / 1000]),
                pooled_projections=pooled,
                encoder_hidden_states=tokens,
                txt_ids=torch.zeros(tokens.shape[1], 3),
                img_ids=torch.arange(LATENTS)[:, None].repeat(1, 3),
                return_dict=False,
            )[0]
            if guided:
                free, told = made.chunk(2)
                made = free + task.guidance * (told - free)
            latents = scheduler.step(made, time, latents).prev_sample
            if given is not None:
                level = scheduler.sigmas[scheduler.step_index]
                count = given.shape[1]
                latents[:, :count] = (1 - level) * given + level * noise[:, :count]
        wave = self.autoencoder.decode(latents.transpose(1, 2)).sample[0]
        if given is not None:
            assert task.init_audio is not None
            wave = begin(wave, task.init_audio.array, given.shape[1] * HOP)
        return cut(wave, round(task.duration_seconds * RATE))

    def _encode_mirrored(self, task: AudioTask) -> torch.Tensor:
        """The latents that the audio fills, encoded with itself backwards after it, all at once."""
        assert task.init_audio is not None
        array = task.init_audio.array
        both = np.concatenate([array, array[::-1]])
        return self._encode(both)[:, : len(array) // HOP]

    def _encode(self, array: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> torch.Tensor:
        """Latents of the samples and of silence after them, all encoded at once."""
        wave = torch.zeros(1, 2, LATENTS * HOP)
        wave[0, :, : len(array)] = torch.from_numpy(array.T)
        mode: torch.Tensor = self.autoencoder.encode(wave).latent_dist.mode()
        return mode.transpose(1, 2)


def begin(
    wave: torch.Tensor,
    audio: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    seam: int,
    fade: int = HOP,
) -> torch.Tensor:
    """The wave, (channels, samples), begun with the audio, which becomes the wave in the latent before the seam."""
    rising = torch.linspace(0, 1, fade + 2)[1:-1]
    share = torch.cat([torch.zeros(seam - fade), rising, torch.ones(wave.shape[1] - seam)])
    given = torch.nn.functional.pad(
        torch.from_numpy(audio[:seam].T.copy()), (0, wave.shape[1] - seam)
    )
    return given * (1 - share) + wave * share


def cut(wave: torch.Tensor, frames: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """The wave, (channels, samples), cut or continued with silence, and lowered where it would clip."""
    wave = wave[:, :frames]
    wave = wave / max(1.0, float(wave.abs().max()))
    padded = torch.nn.functional.pad(wave, (0, frames - wave.shape[1]))
    return cast("np.ndarray[tuple[int, int], np.dtype[np.float32]]", padded.T.numpy())


def write(folder: Path) -> TinyTangoFlux:
    """The model, the same every time, and loud enough to be heard."""
    torch.manual_seed(4)
    made = TinyTangoFlux(
        folder=folder / "model",
        text_folder=folder / "t5",
        tokenizer=tiny_t5.tokenizer(16),
        text_encoder=tiny_t5.encoder(5),
        fc=torch.nn.Linear(tiny_t5.WIDTH, tiny_t5.WIDTH),
        duration=StableAudioNumberConditioner(tiny_t5.WIDTH, 0, MAX_SECONDS),
        denoiser=_denoiser(),
        autoencoder=_autoencoder(),
    )
    _write_text_encoder(made)
    _write_weights(made)
    return made


def _denoiser() -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        in_channels=LATENT_WIDTH,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=128,
        num_attention_heads=1,
        joint_attention_dim=tiny_t5.WIDTH,
        pooled_projection_dim=tiny_t5.WIDTH,
        guidance_embeds=False,
    ).eval()


def _autoencoder() -> AutoencoderOobleck:
    made = AutoencoderOobleck(
        encoder_hidden_size=2 * LATENT_WIDTH,
        channel_multiples=[1, 1, 1, 1, 1],
        decoder_channels=4,
        decoder_input_channels=LATENT_WIDTH,
    )
    assert math.prod(made.upsampling_ratios) == HOP
    return made.eval()


def _write_text_encoder(made: TinyTangoFlux) -> None:
    made.text_encoder.config.save_pretrained(made.text_folder)
    made.tokenizer.save_pretrained(made.text_folder)


def _write_weights(made: TinyTangoFlux) -> None:
    made.folder.mkdir(parents=True)
    parts: dict[str, torch.nn.Module] = {
        "transformer": made.denoiser,
        "text_encoder": made.text_encoder,
        "fc.0": made.fc,
        "duration_emebdder": made.duration,
    }
    tensors = {
        f"{prefix}.{name}": tensor.contiguous()
        for prefix, module in parts.items()
        for name, tensor in module.state_dict().items()
        if name != "encoder.embed_tokens.weight"
    }
    save_file(tensors, made.folder / "tangoflux.safetensors")
    save_file(made.autoencoder.state_dict(), made.folder / "vae.safetensors")
    config = {
        "num_layers": 1,
        "num_single_layers": 1,
        "in_channels": LATENT_WIDTH,
        "attention_head_dim": 128,
        "joint_attention_dim": tiny_t5.WIDTH,
        "num_attention_heads": 1,
        "audio_seq_len": LATENTS,
        "max_duration": MAX_SECONDS,
        "text_encoder_name": "google/flan-t5-large",
    }
    (made.folder / "config.json").write_text(json.dumps(config))
