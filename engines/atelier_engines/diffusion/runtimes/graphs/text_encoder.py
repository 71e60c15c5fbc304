"""The graph of a CLIP text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from atelier_engines.diffusion.runtimes.graphs.graph import ROWS, Graph, GraphInput


def describe_text_encoder(
    name: str, config: Mapping[str, Any], dtype: torch.dtype, *, projects: bool
) -> Graph:
    """The graph from tokens to the hidden states of all layers, stacked, before and after the last norm.

    Args:
        name: the encoder's name in diffusers' layout.
        config: its configuration, as transformers' CLIPTextConfig has it.
        dtype: the type that it computes in.
        projects: whether it returns a pooled embedding too.
    """
    tokens, width = config["max_position_embeddings"], config["hidden_size"]
    return Graph(
        name=name,
        inputs=(
            GraphInput(
                name="token_ids",
                shape=(ROWS, tokens),
                dtype=torch.int64,
                highest=config["vocab_size"],
            ),
            GraphInput(name="vectors", shape=(tokens, width), dtype=dtype),
            GraphInput(name="is_replaced", shape=(tokens, 1), dtype=torch.bool),
        ),
        outputs=("hidden_states", "normed_states", *(("pooled",) if projects else ())),
        wrap=_TextEncoderGraph,
    )


class _TextEncoderGraph(torch.nn.Module):
    """With vectors of tokens as an input, since textual inversion replaces some."""

    def __init__(self, module: Any) -> None:  # noqa: ANN401 (classes that share no base for mypy)
        super().__init__()
        self.module = module
        self.norm = getattr(module, "text_model", module).final_layer_norm

    def forward(
        self, token_ids: torch.Tensor, vectors: torch.Tensor, is_replaced: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        def replace(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
            return torch.where(is_replaced, vectors, output)

        handle = self.module.get_input_embeddings().register_forward_hook(replace)
        try:
            output = self.module(token_ids, output_hidden_states=True)
        finally:
            handle.remove()
        hidden = torch.stack(output.hidden_states)
        pooled = getattr(output, "text_embeds", None)
        return (hidden, self.norm(hidden), *(() if pooled is None else (pooled,)))
