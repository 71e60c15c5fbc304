"""The graphs of a UNet and of its ControlNets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from atelier_engines.diffusion.runtimes.graphs.graph import (
    ROWS,
    TOKENS,
    Graph,
    GraphInput,
    image_axes,
)

RESIDUAL = "residual_"
"""The names of residuals begin with it; the middle block's is the last."""

_TIME_IDS = 6
_TIME_ID_PIXELS = 1024
_TIMESTEPS = 1000
_MAP_PIXELS = 8


def describe_denoiser(
    config: Mapping[str, Any], dtype: torch.dtype, *, with_residuals: bool
) -> Graph:
    """The graph of a UNet.

    Args:
        config: its configuration, as diffusers' UNet2DConditionModel has it.
        dtype: the type that it computes in.
        with_residuals: whether what ControlNets add is among the inputs.
    """
    residuals = _residuals(config, dtype) if with_residuals else ()
    return Graph(
        name="denoiser with residuals" if with_residuals else "denoiser",
        inputs=(*_conditioned(config, config["in_channels"], dtype), *residuals),
        outputs=("prediction",),
        wrap=_DenoiserGraph,
    )


def describe_controlnet(config: Mapping[str, Any], dtype: torch.dtype) -> Graph:
    """The graph of a ControlNet for the UNet of that configuration; see `describe_denoiser`."""
    latent_channels = 4  # ControlNets do not take the mask channels of inpainting models
    return Graph(
        name="controlnet",
        inputs=(
            GraphInput(
                name="maps",
                shape=(ROWS, 3, *image_axes(factor=_MAP_PIXELS)),
                dtype=dtype,
                highest=1,
            ),
            GraphInput(name="scales", shape=(ROWS, 1, 1, 1), dtype=torch.float32, highest=1),
            *_conditioned(config, latent_channels, dtype),
        ),
        outputs=tuple(one.name for one in _residuals(config, dtype)),
        wrap=_ControlNetGraph,
    )


def _conditioned(
    config: Mapping[str, Any], channels: int, dtype: torch.dtype
) -> tuple[GraphInput, ...]:
    """What UNets and ControlNets both take.

    Pooled embeddings and time ids are float32 in every precision: the UNet concatenates them with sines that it
    computes in float32, and runtimes refuse to concatenate two types.
    """
    always = (
        GraphInput(name="latents", shape=(ROWS, channels, *image_axes()), dtype=dtype),
        GraphInput(name="timesteps", shape=(ROWS,), dtype=torch.float32, highest=_TIMESTEPS),
        GraphInput(
            name="prompt_embeds", shape=(ROWS, TOKENS, config["cross_attention_dim"]), dtype=dtype
        ),
    )
    if config["addition_embed_type"] != "text_time":
        return always
    pooled = (
        config["projection_class_embeddings_input_dim"]
        - _TIME_IDS * config["addition_time_embed_dim"]
    )
    return (
        *always,
        GraphInput(name="pooled_prompt_embeds", shape=(ROWS, pooled), dtype=torch.float32),
        GraphInput(
            name="time_ids", shape=(ROWS, _TIME_IDS), dtype=torch.float32, highest=_TIME_ID_PIXELS
        ),
    )


def _residuals(config: Mapping[str, Any], dtype: torch.dtype) -> tuple[GraphInput, ...]:
    """One for each output of the down blocks, in their order, and one for the middle block."""
    channels = config["block_out_channels"]
    layers = config["layers_per_block"]
    found = [(channels[0], 1)]
    for block, width in enumerate(channels):
        count = layers if isinstance(layers, int) else layers[block]
        found += [(width, 2**block)] * count
        if block < len(channels) - 1:
            found.append((width, 2 ** (block + 1)))
    found.append((channels[-1], 2 ** (len(channels) - 1)))
    return tuple(
        GraphInput(
            name=f"{RESIDUAL}{place}",
            shape=(ROWS, width, *image_axes(divisor=divisor)),
            dtype=dtype,
        )
        for place, (width, divisor) in enumerate(found)
    )


def _added(conditions: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    return dict(zip(("text_embeds", "time_ids"), conditions, strict=False))


class _DenoiserGraph(torch.nn.Module):
    def __init__(self, module: Any) -> None:  # noqa: ANN401 (diffusers' models have no base for mypy)
        super().__init__()
        self.module = module
        self.conditions = 2 if module.config["addition_embed_type"] == "text_time" else 0

    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        prompt_embeds: torch.Tensor,
        *more: torch.Tensor,
    ) -> torch.Tensor:
        residuals = more[self.conditions :]
        prediction: torch.Tensor = self.module(
            latents,
            timesteps,
            encoder_hidden_states=prompt_embeds,
            added_cond_kwargs=_added(more[: self.conditions]),
            down_block_additional_residuals=residuals[:-1] or None,
            mid_block_additional_residual=residuals[-1] if residuals else None,
            return_dict=False,
        )[0]
        return prediction


class _ControlNetGraph(torch.nn.Module):
    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(
        self,
        maps: torch.Tensor,
        scales: torch.Tensor,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        prompt_embeds: torch.Tensor,
        *conditions: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        down, mid = self.module(
            latents,
            timesteps,
            encoder_hidden_states=prompt_embeds,
            controlnet_cond=maps,
            conditioning_scale=scales,
            added_cond_kwargs=_added(conditions),
            return_dict=False,
        )
        return (*down, mid)
