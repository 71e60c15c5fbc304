"""The graph of TangoFlux's denoiser: the same for torch and for what else runs it."""

from __future__ import annotations

from typing import Any

import torch

from atelier_engines.diffusion.runtimes.graphs.graph import ROWS, Axis, Graph, GraphInput
from atelier_engines.tangoflux.published_files import NetworkConfig

TRAIN_TIMESTEPS = 1000
_TOKENS = Axis(name="tokens", least=2, most=513, example=7)
"""Of a text, and one for the duration."""


def describe_denoiser(network: NetworkConfig, text_width: int, dtype: torch.dtype) -> Graph:
    """The graph from latents, as many as the longest clip has, to what the denoiser predicts.

    Args:
        network: the model's configuration.
        text_width: numbers in the vector of a token.
        dtype: the type that it computes in.
    """
    return Graph(
        name="tangoflux denoiser",
        inputs=(
            GraphInput(
                name="latents",
                shape=(ROWS, network.audio_seq_len, network.in_channels),
                dtype=dtype,
            ),
            GraphInput(
                name="timesteps", shape=(ROWS,), dtype=torch.float32, highest=TRAIN_TIMESTEPS
            ),
            GraphInput(name="pooled_projections", shape=(ROWS, text_width), dtype=dtype),
            GraphInput(
                name="encoder_hidden_states",
                shape=(ROWS, _TOKENS, network.joint_attention_dim),
                dtype=dtype,
            ),
        ),
        outputs=("prediction",),
        wrap=DenoiserGraph,
    )


class DenoiserGraph(torch.nn.Module):
    """The denoiser as a function of tensors alone, with the places of latents and tokens in it."""

    def __init__(self, module: Any) -> None:  # noqa: ANN401 (diffusers' models have no base for mypy)
        super().__init__()
        self.module = module

    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        pooled_projections: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
    ) -> torch.Tensor:
        """The prediction, in the shape of the latents."""
        device = latents.device
        positions = torch.arange(latents.shape[1], device=device, dtype=torch.float32)
        prediction: torch.Tensor = self.module(
            hidden_states=latents,
            timestep=timesteps / TRAIN_TIMESTEPS,
            pooled_projections=pooled_projections,
            encoder_hidden_states=encoder_hidden_states,
            txt_ids=torch.zeros(encoder_hidden_states.shape[1], 3, device=device),
            img_ids=positions[:, None].repeat(1, 3),
            return_dict=False,
        )[0]
        return prediction
