"""The trained weights as fixed ground for what is added to them, and their words for captions."""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from recipe import tokenizer
from recipe.noise import time_ids
from recipe.train_unet import Networks


@dataclass(frozen=True, slots=True)
class Condition:
    """What the denoiser is told beside the latents and the time step."""

    sequence: torch.Tensor
    added: dict[str, torch.Tensor]


class Frozen:
    """The denoiser and text encoders of a diffusers folder, none of which is trained."""

    def __init__(self, weights: Path) -> None:
        self._networks = load(weights)
        self._words = tokenizer.Pair(weights)
        for network in (self._networks.unet, self._networks.first, self._networks.second):
            network.requires_grad_(requires_grad=False)
        self.unet.set_attn_processor(AttnProcessor())

    @property
    def unet(self) -> UNet2DConditionModel:
        """The denoiser."""
        return self._networks.unet

    @torch.no_grad()
    def condition(self, said: list[str], zeros: float, draw: torch.Generator) -> Condition:
        """These captions; a share of them all zeros, as guidance compares with."""
        sequence, pooled = self._networks.embed(*self._words.ids(said))
        keep = (torch.rand(len(said), generator=draw) >= zeros).float()
        added = {
            "text_embeds": pooled * keep.view(-1, 1),
            "time_ids": time_ids(len(said), draw),
        }
        return Condition(sequence * keep.view(-1, 1, 1), added)


def load(weights: Path) -> Networks:
    """The denoiser and text encoders of a diffusers folder, in float32."""
    return Networks(
        UNet2DConditionModel.from_pretrained(weights / "unet", torch_dtype=torch.float32),
        CLIPTextModel.from_pretrained(weights / "text_encoder", dtype=torch.float32),
        CLIPTextModelWithProjection.from_pretrained(
            weights / "text_encoder_2", dtype=torch.float32
        ),
    )
