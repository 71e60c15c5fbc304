"""One batch of images by the engine's own components, and by diffusers: four steps of SDXL-Lightning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import (
    EulerDiscreteScheduler,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLPipeline,
)

from atelier_engines.diffusion.runtimes.base import Conditioning, Residuals
from atelier_engines.diffusion.runtimes.torch import (
    TorchAutoencoder,
    TorchControlNet,
    TorchDenoiser,
    TorchTextEncoder,
)
from bench.gpu.networks import Networks

STEPS = 4
_SIGMAS = (14.6146, 4.0817, 1.6129, 0.6932, 0.0)
_TIMESTEPS = (999.0, 749.0, 499.0, 249.0)
"""SDXL-Lightning's schedule for four steps: trailing, by EulerDiscreteScheduler (diffusers 0.42.1)."""
_TOKENS = 77
_LATENT = 8
_CONDITIONING = 0.5

Call = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is drawn."""

    side: int
    """Width and height in pixels."""
    batch: int
    """Images at once."""
    controlled: bool
    """Whether a ControlNet runs at each step."""

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.side}² × {self.batch}{' + ControlNet' if self.controlled else ''}"


class Drawing:
    """The components of a model and inputs of one case."""

    def __init__(self, networks: Networks, case: Case) -> None:
        """Make random inputs on the device."""
        device, dtype = networks.device, networks.dtype
        self.case = case
        self._encoders = [
            TorchTextEncoder(module, device)
            for module in (networks.text_encoder, networks.text_encoder_2)
        ]
        self._denoiser = TorchDenoiser(networks.unet)
        self._controlnet = TorchControlNet(networks.controlnet)
        self._vae = TorchAutoencoder(networks.vae, device)
        draw = torch.Generator(device).manual_seed(1)
        cells, batch = case.side // _LATENT, case.batch
        shape = (batch, networks.unet.config["in_channels"], cells, cells)
        noise = torch.randn(shape, generator=draw, device=device, dtype=dtype)
        self.noise = noise
        """Unscaled: diffusers multiplies it itself."""
        self.latents = noise * _SIGMAS[0]
        self.maps = torch.rand(
            (batch, 3, case.side, case.side), generator=draw, device=device, dtype=dtype
        )
        words = networks.text_encoder.config.vocab_size
        self._tokens = torch.randint(0, words, (batch, _TOKENS), generator=draw, device=device)
        numbers = [case.side, case.side, 0, 0, case.side, case.side]
        self._time_ids = torch.tensor([numbers] * batch, device=device, dtype=dtype)
        self._timesteps = [torch.full((batch,), one, device=device) for one in _TIMESTEPS]

    def encode(self) -> Conditioning:
        """Run both text encoders."""
        made = [one.encode(self._tokens, layer=-2) for one in self._encoders]
        return Conditioning(
            prompt_embeds=torch.cat([one.prompt_embeds for one in made], dim=-1),
            pooled_prompt_embeds=made[1].pooled_prompt_embeds,
            time_ids=self._time_ids,
        )

    def control(self, latents: torch.Tensor, step: int, conditioning: Conditioning) -> Residuals:
        """Run the ControlNet."""
        return self._controlnet.compute_residuals(
            latents,
            self._timesteps[step],
            conditioning,
            maps=self.maps,
            scales=[_CONDITIONING] * self.case.batch,
        )

    def predict(
        self,
        latents: torch.Tensor,
        step: int,
        conditioning: Conditioning,
        residuals: Residuals | None = None,
    ) -> torch.Tensor:
        """Run the denoiser."""
        return self._denoiser.predict(latents, self._timesteps[step], conditioning, residuals)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Run the decoder on one image after the other, as the engine does."""
        return torch.cat(
            [self._vae.module.decode(one[None], return_dict=False)[0] for one in latents]
        )

    def denoise(self, conditioning: Conditioning) -> torch.Tensor:
        """All steps; Euler's method, whose numbers are Python's."""
        latents = self.latents
        for step in range(STEPS):
            scaled = latents / (_SIGMAS[step] ** 2 + 1) ** 0.5
            residuals = self.control(scaled, step, conditioning) if self.case.controlled else None
            predicted = self.predict(scaled, step, conditioning, residuals)
            latents = latents + predicted * (_SIGMAS[step + 1] - _SIGMAS[step])
        return latents

    def draw(self) -> torch.Tensor:
        """Prompts to images."""
        return self.decode(self.denoise(self.encode()))

    def list_parts(self) -> Mapping[str, Call]:
        """Every component alone, with inputs of this case."""
        conditioning = self.encode()
        residuals = self.control(self.latents, 0, conditioning) if self.case.controlled else None
        parts: dict[str, Call] = {
            "text encoders": self.encode,
            "denoiser": partial(self.predict, self.latents, 0, conditioning, residuals),
            "decoder": partial(self.decode, self.latents / _SIGMAS[0]),
        }
        if self.case.controlled:
            parts["ControlNet"] = partial(self.control, self.latents, 0, conditioning)
        return parts


def make_diffusers(networks: Networks, drawing: Drawing) -> Call:
    """The same by diffusers' own pipeline, without tokenizers: it is given embeddings, and returns tensors."""
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="trailing",
        steps_offset=1,
    )
    parts = {
        "vae": networks.vae,
        "text_encoder": networks.text_encoder,
        "text_encoder_2": networks.text_encoder_2,
        "tokenizer": None,
        "tokenizer_2": None,
        "unet": networks.unet,
        "scheduler": scheduler,
        "add_watermarker": False,
    }
    case = drawing.case
    if case.controlled:
        pipeline = StableDiffusionXLControlNetPipeline(**parts, controlnet=networks.controlnet)
        more = {"image": drawing.maps, "controlnet_conditioning_scale": _CONDITIONING}
    else:
        pipeline = StableDiffusionXLPipeline(**parts)
        more = {}
    pipeline.set_progress_bar_config(disable=True)

    def draw() -> object:
        conditioning = drawing.encode()
        return pipeline(
            prompt_embeds=conditioning.prompt_embeds,
            pooled_prompt_embeds=conditioning.pooled_prompt_embeds,
            width=case.side,
            height=case.side,
            num_inference_steps=STEPS,
            guidance_scale=0.0,
            latents=drawing.noise,
            output_type="pt",
            **more,
        )

    return draw
