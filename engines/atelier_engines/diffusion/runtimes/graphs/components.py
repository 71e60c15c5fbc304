"""The components of a model whose networks are run as graphs, by whichever runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]  # accelerate has no types
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from atelier_engines.diffusion.loras.replacing import ReplaceableWeights
from atelier_engines.diffusion.runtimes.base import (
    NO_VECTORS,
    Conditioning,
    OnOverflow,
    Residuals,
    TextEncoderOutput,
    ignore_overflow,
)
from atelier_engines.diffusion.runtimes.graphs.denoiser import RESIDUAL
from atelier_engines.diffusion.runtimes.graphs.graph import HEIGHT, ROWS, WIDTH, Graph
from atelier_engines.diffusion.runtimes.torch import tiling
from atelier_engines.errors import EngineFailedError

Run = Callable[[Mapping[str, torch.Tensor]], tuple[torch.Tensor, ...]]
"""Runs a graph with inputs by name; returns its outputs."""


class GraphTextEncoder:
    """See TextEncoder."""

    def __init__(self, graph: Graph, run: Run, weights: ReplaceableWeights | None) -> None:
        """Encode with a graph, whose weights LoRAs replace; None where they cannot."""
        self._run = run
        self._weights = weights
        self._shape = graph.input("vectors").lengths({})

    @property
    def lora_target(self) -> ReplaceableWeights | None:
        """See TextEncoder.lora_target."""
        return self._weights

    @property
    def width(self) -> int:
        """See TextEncoder.width."""
        return self._shape[1]

    def encode(
        self,
        token_ids: torch.Tensor,
        *,
        layer: int | None,
        normed: bool = False,
        vectors: Mapping[int, torch.Tensor] = NO_VECTORS,
    ) -> TextEncoderOutput:
        """See TextEncoder.encode."""
        replacements = torch.zeros(self._shape)
        is_replaced = torch.zeros(self._shape[0], 1, dtype=torch.bool)
        for place, vector in vectors.items():
            replacements[place] = vector
            is_replaced[place] = True
        hidden, after_norm, *pooled = self._run(
            {"token_ids": token_ids, "vectors": replacements, "is_replaced": is_replaced}
        )
        states = after_norm if normed or layer is None else hidden
        return TextEncoderOutput(
            prompt_embeds=states[-1 if layer is None else layer],
            pooled_prompt_embeds=pooled[0] if pooled else None,
        )


class GraphDenoiser:
    """See Denoiser."""

    def __init__(self, graph: Graph, run: Run, weights: ReplaceableWeights | None) -> None:
        """Denoise with a graph; one with residuals gets zeros where there are none.

        Args:
            graph: its specification.
            run: runs it.
            weights: its weights, which LoRAs replace; None where they cannot.
        """
        self._run = run
        self._weights = weights
        self._residuals = [one for one in graph.inputs if one.name.startswith(RESIDUAL)]

    @property
    def lora_target(self) -> ReplaceableWeights | None:
        """See Denoiser.lora_target."""
        return self._weights

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        residuals: Residuals | None = None,
    ) -> torch.Tensor:
        """See Denoiser.predict."""
        inputs = _conditioned(latents, timesteps, conditioning)
        if residuals is not None:
            added = (*residuals.down, residuals.mid)
            names = [one.name for one in self._residuals]
            inputs |= dict(zip(names, added, strict=True))
        else:
            rows, _, height, width = latents.shape
            by_axis = {ROWS.name: rows, HEIGHT.name: height, WIDTH.name: width}
            inputs |= {
                one.name: torch.zeros(one.lengths(by_axis), dtype=one.dtype, device=latents.device)
                for one in self._residuals
            }
        return self._run(inputs)[0]


class GraphControlNet:
    """See ControlNet."""

    def __init__(self, graph: Graph, run: Run) -> None:
        """Compute residuals with a graph."""
        self._run = run
        self._channels = graph.input("latents").example().shape[1]

    def compute_residuals(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        *,
        maps: torch.Tensor,
        scales: Sequence[float],
    ) -> Residuals:
        """See ControlNet.compute_residuals."""
        inputs = _conditioned(latents[:, : self._channels], timesteps, conditioning)
        inputs["maps"] = maps
        inputs["scales"] = torch.tensor(scales).view(-1, 1, 1, 1)
        *down, mid = self._run(inputs)
        return Residuals(down=tuple(down), mid=mid)


class _GraphModule(torch.nn.Module):
    """A graph with one input and one output, in the place of a module of diffusers."""

    def __init__(self, graph: Graph, run: Run) -> None:
        super().__init__()
        self._name = graph.inputs[0].name
        self._run = run

    def forward(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._run({self._name: tensor})[0]


class GraphAutoencoder:
    """See Autoencoder. A graph has one number format, so what is too large for it is an error."""

    def __init__(
        self,
        shell: AutoencoderKL,
        *,
        encoder: tuple[Graph, Run],
        decoder: tuple[Graph, Run],
    ) -> None:
        """Encode and decode with graphs.

        Args:
            shell: an autoencoder without weights and without convolutions between latents and its two halves;
                it cuts images into tiles, and the graphs take the place of its halves.
            encoder: the graph of its encoder, and what runs it.
            decoder: the graph of its decoder, and what runs it.
        """
        self._shell = shell
        self._dtype = decoder[0].inputs[0].dtype
        shell.encoder = _GraphModule(*encoder)
        shell.decoder = _GraphModule(*decoder)

    def encode(
        self,
        image: torch.Tensor,
        generator: torch.Generator,
        *,
        tiled: bool = False,
        on_overflow: OnOverflow = ignore_overflow,
    ) -> torch.Tensor:
        """See Autoencoder.encode."""
        del on_overflow
        with tiling(self._shell, tiled=tiled):
            made = self._shell.encode(image, return_dict=False)[0]
        self._require_finite(made.parameters, image)
        sample: torch.Tensor = made.sample(generator)
        return sample

    def decode(
        self,
        latents: torch.Tensor,
        *,
        tiled: bool = False,
        on_overflow: OnOverflow = ignore_overflow,
    ) -> torch.Tensor:
        """See Autoencoder.decode."""
        del on_overflow
        with tiling(self._shell, tiled=tiled):
            image: torch.Tensor = self._shell.decode(latents, return_dict=False)[0]
        self._require_finite(image, latents)
        return image

    def _require_finite(self, made: torch.Tensor, source: torch.Tensor) -> None:
        """Return unless a number format was too small for a result.

        Raises:
            EngineFailedError: it was.
        """
        if self._dtype == torch.float32 or torch.isfinite(made).all():
            return
        if torch.isfinite(source).all():
            name = str(self._dtype).removeprefix("torch.")
            raise EngineFailedError(
                f"the autoencoder overflows in {name}: set vae_precision to float32, and build again"
            )


def _conditioned(
    latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
) -> dict[str, torch.Tensor]:
    """What denoisers and ControlNets both take, by name."""
    found = {
        "latents": latents,
        "timesteps": timesteps,
        "prompt_embeds": conditioning.prompt_embeds,
        "pooled_prompt_embeds": conditioning.pooled_prompt_embeds,
        "time_ids": conditioning.time_ids,
    }
    return {name: value for name, value in found.items() if value is not None}


def create_shell(config: Mapping[str, Any]) -> AutoencoderKL:
    """See GraphAutoencoder; the graphs contain the convolutions that it is without.

    Args:
        config: the configuration of the autoencoder in the graphs.
    """
    without = {"use_quant_conv": False, "use_post_quant_conv": False}
    with init_empty_weights():
        made: AutoencoderKL = AutoencoderKL.from_config({**config, **without})
    return made.eval()
