"""Networks as torch traces them: what ONNX Runtime computes is what torch does, in float16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from atelier_engines.diffusion.builds import parity
from atelier_engines.diffusion.runtimes.graphs.autoencoder import describe_decoder
from atelier_engines.diffusion.runtimes.graphs.denoiser import describe_denoiser
from atelier_engines.diffusion.runtimes.graphs.export import export
from atelier_engines.diffusion.runtimes.graphs.graph import Graph
from atelier_engines.diffusion.runtimes.graphs.text_encoder import describe_text_encoder
from atelier_engines.diffusion.runtimes.onnx.session import OnnxSession

pytestmark = pytest.mark.timeout(1800)  # tracing takes long where others work

DTYPE = torch.float16
"""Networks of float32 are those of the small model, in other tests; tracing takes seconds."""


def create(name: str) -> tuple[Graph, torch.nn.Module]:
    """The smallest network of its kind with random weights, and its specification."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=(1, 2),
        cross_attention_dim=24,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 16,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    )
    match name:
        case "denoiser":
            return describe_denoiser(unet.config, DTYPE, with_residuals=True), unet
        case "decoder":
            return describe_decoder(vae.config, DTYPE), vae
        case _:
            text = CLIPTextConfig(
                vocab_size=99,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                projection_dim=16,
            )
            encoder = CLIPTextModelWithProjection(text)
            return describe_text_encoder(name, text.to_dict(), DTYPE, projects=True), encoder


@pytest.mark.parametrize("name", ["denoiser", "decoder", "text"])
def test_what_is_traced_computes_the_same(name: str, tmp_path: Path) -> None:
    """To 0.005 of the largest number, at sizes that it is not traced at, odd ones too."""
    graph, module = create(name)
    module = module.to(DTYPE).eval()
    inputs = parity.draw_inputs(graph)
    expected = parity.run_torch(graph, module, inputs)
    path = tmp_path / "model.onnx"
    export(graph, module, path)
    session = OnnxSession(graph, lambda: path)
    for one in parity.measure(graph, session.run, inputs, expected):
        assert one.relative <= parity.TOLERANCES[DTYPE], one
