"""The graph of Stable Audio's denoiser: the same for torch and for what else runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed

from atelier_engines.diffusion.runtimes.graphs.graph import ROWS, Axis, Graph, GraphInput

_TOKENS = Axis(name="tokens", least=3, most=130, example=7)
"""Of a text, and two for its start and its end."""


def describe_denoiser(config: Mapping[str, Any], dtype: torch.dtype) -> Graph:
    """The graph from latents, as many as the longest clip has, to what the denoiser predicts.

    Args:
        config: its configuration, as diffusers' StableAudioDiTModel has it.
        dtype: the type that it computes in.
    """
    return Graph(
        name="stable audio denoiser",
        inputs=(
            GraphInput(
                name="latents",
                shape=(ROWS, config["in_channels"], config["sample_size"]),
                dtype=dtype,
            ),
            GraphInput(name="timesteps", shape=(ROWS,), dtype=torch.float32, highest=1),
            GraphInput(
                name="encoder_hidden_states",
                shape=(ROWS, _TOKENS, config["cross_attention_input_dim"]),
                dtype=dtype,
            ),
            GraphInput(
                name="global_hidden_states",
                shape=(ROWS, 1, config["global_states_input_dim"]),
                dtype=dtype,
            ),
        ),
        outputs=("prediction",),
        wrap=DenoiserGraph,
    )


class DenoiserGraph(torch.nn.Module):
    """The denoiser as a function of tensors alone, with the places of latents in it."""

    def __init__(self, module: Any) -> None:  # noqa: ANN401 (diffusers' models have no base for mypy)
        super().__init__()
        self.module = module
        self.width = int(module.config.attention_head_dim) // 2

    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        global_hidden_states: torch.Tensor,
    ) -> torch.Tensor:
        """The prediction, in the shape of the latents."""
        rotary = get_1d_rotary_pos_embed(
            self.width,
            latents.shape[2] + global_hidden_states.shape[1],
            use_real=True,
            repeat_interleave_real=False,
        )
        prediction: torch.Tensor = self.module(
            latents,
            timesteps,
            rotary_embedding=tuple(part.to(latents.device) for part in rotary),
            encoder_hidden_states=encoder_hidden_states,
            global_hidden_states=global_hidden_states,
            return_dict=False,
        )[0]
        return prediction
