"""Components run by torch, eagerly or compiled, as diffusers and transformers define them.

Modules are in evaluation mode and without gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch

from atelier_engines.diffusion.runtimes.base import (
    NO_VECTORS,
    Conditioning,
    OnOverflow,
    Residuals,
    TextEncoderOutput,
    ignore_overflow,
)
from atelier_engines.diffusion.runtimes.compiled_blocks import CompiledBlocks, find_shape
from atelier_engines.local.torch_module import computing_in

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

ResultT = TypeVar("ResultT")


class Runner(Protocol):
    """Has a module on its device while it works; see Lease.run."""

    def __call__(self, work: Callable[[], ResultT], /) -> ResultT:
        """What `work()` returns."""


def run_directly(work: Callable[[], ResultT], /) -> ResultT:
    """What `work()` returns, of a module that is always on its device."""
    return work()


class TorchTextEncoder:
    """See TextEncoder."""

    def __init__(
        self,
        module: CLIPTextModel | CLIPTextModelWithProjection,
        device: torch.device,
        run: Runner = run_directly,
    ) -> None:
        """Encode with a module that runs on `device`."""
        self.module = module
        self._device = device
        self._run = run

    @property
    def lora_target(self) -> torch.nn.Module:
        """See TextEncoder.lora_target."""
        return self.module

    @property
    def width(self) -> int:
        """See TextEncoder.width."""
        width: int = self.module.config.hidden_size
        return width

    def encode(
        self,
        token_ids: torch.Tensor,
        *,
        layer: int | None,
        normed: bool = False,
        vectors: Mapping[int, torch.Tensor] = NO_VECTORS,
    ) -> TextEncoderOutput:
        """See TextEncoder.encode."""
        on_device = token_ids.to(self._device)

        def forward() -> Any:  # noqa: ANN401 (classes that share no base for mypy)
            with _replaced_vectors(self.module.get_input_embeddings(), vectors):
                output = self.module(on_device, output_hidden_states=True)
            hidden = output.last_hidden_state if layer is None else output.hidden_states[layer]
            return _final_norm(self.module)(hidden) if normed else hidden, output

        hidden, output = self._run(forward)
        return TextEncoderOutput(
            prompt_embeds=hidden.to(self.module.dtype),
            pooled_prompt_embeds=getattr(output, "text_embeds", None),
        )


def _final_norm(module: Any) -> torch.nn.Module:  # noqa: ANN401 (classes that share no base for mypy)
    """The norm after the last layer, in either class of CLIP's text encoders."""
    norm: torch.nn.Module = getattr(module, "text_model", module).final_layer_norm
    return norm


class TorchDenoiser:
    """See Denoiser."""

    def __init__(
        self,
        module: UNet2DConditionModel,
        run: Runner = run_directly,
        *,
        blocks: CompiledBlocks | None = None,
    ) -> None:
        """Denoise with a module, whose blocks are compiled where `blocks` is not None."""
        self.module = module
        self._run = run
        self._blocks = blocks

    @property
    def lora_target(self) -> torch.nn.Module:
        """See Denoiser.lora_target."""
        module: torch.nn.Module = self.module
        return module

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        conditioning: Conditioning,
        residuals: Residuals | None = None,
    ) -> torch.Tensor:
        """See Denoiser.predict."""
        _count_eager(self._blocks, self.module, latents, conditioning)

        def forward() -> torch.Tensor:
            prediction: torch.Tensor = self.module(
                latents,
                timesteps,
                encoder_hidden_states=conditioning.prompt_embeds,
                down_block_additional_residuals=None if residuals is None else residuals.down,
                mid_block_additional_residual=None if residuals is None else residuals.mid,
                added_cond_kwargs=_added_conditions(conditioning),
                return_dict=False,
            )[0]
            return prediction

        return self._run(forward)


class TorchControlNet:
    """See ControlNet."""

    def __init__(
        self,
        module: ControlNetModel,
        run: Runner = run_directly,
        *,
        blocks: CompiledBlocks | None = None,
    ) -> None:
        """Compute residuals with a module, whose blocks are compiled where `blocks` is not None."""
        self.module = module
        self._run = run
        self._blocks = blocks

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
        _count_eager(self._blocks, self.module, latents, conditioning)
        channels = self.module.config["in_channels"]
        down, mid = self._run(
            lambda: self.module(
                latents[:, :channels],
                timesteps,
                encoder_hidden_states=conditioning.prompt_embeds,
                controlnet_cond=maps,
                conditioning_scale=_conditioning_scale(scales, latents.device),
                added_cond_kwargs=_added_conditions(conditioning),
                return_dict=False,
            ),
        )
        dtype = latents.dtype
        return Residuals(down=tuple(part.to(dtype) for part in down), mid=mid.to(dtype))


class TorchAutoencoder:
    """See Autoencoder."""

    def __init__(
        self, module: AutoencoderKL, device: torch.device, run: Runner = run_directly
    ) -> None:
        """Encode and decode with a module that runs on `device`."""
        self.module = module
        self._device = device
        self._run = run

    def encode(
        self,
        image: torch.Tensor,
        generator: torch.Generator,
        *,
        tiled: bool = False,
        on_overflow: OnOverflow = ignore_overflow,
    ) -> torch.Tensor:
        """See Autoencoder.encode."""
        on_device = image.to(self._device)

        def forward() -> DiagonalGaussianDistribution:
            converted = on_device.to(self.module.dtype)
            with tiling(self.module, tiled=tiled):
                return self.module.encode(converted, return_dict=False)[0]

        def work() -> DiagonalGaussianDistribution:
            made = forward()
            if not self._overflows(made.parameters, on_device):
                return made
            on_overflow()
            with computing_in(self.module, torch.float32):
                return forward()

        sample: torch.Tensor = self._run(work).sample(generator)
        return sample

    def decode(
        self,
        latents: torch.Tensor,
        *,
        tiled: bool = False,
        on_overflow: OnOverflow = ignore_overflow,
    ) -> torch.Tensor:
        """See Autoencoder.decode."""

        def forward() -> torch.Tensor:
            converted = latents.to(self.module.dtype)
            with tiling(self.module, tiled=tiled):
                image: torch.Tensor = self.module.decode(converted, return_dict=False)[0]
                return image

        def work() -> torch.Tensor:
            image = forward()
            if not self._overflows(image, latents):
                return image
            on_overflow()
            with computing_in(self.module, torch.float32):
                return forward()

        return self._run(work)

    def _overflows(self, made: torch.Tensor, source: torch.Tensor) -> bool:
        """Whether a larger number format may give a finite result where this one did not."""
        if self.module.dtype == torch.float32 or torch.isfinite(made).all():
            return False
        return bool(torch.isfinite(source).all())


@contextmanager
def _replaced_vectors(
    embedding: torch.nn.Module, vectors: Mapping[int, torch.Tensor]
) -> Iterator[None]:
    """Have these vectors in the module's output, (rows, tokens, width), at their places."""
    if not vectors:
        yield
        return
    places = list(vectors)
    rows = torch.stack(list(vectors.values()))

    def replace(
        _module: torch.nn.Module, _inputs: tuple[object, ...], output: torch.Tensor
    ) -> torch.Tensor:
        made = output.clone()
        made[:, places] = rows.to(made)
        return made

    handle = embedding.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def tiling(vae: AutoencoderKL, *, tiled: bool) -> Iterator[None]:
    """Set how the autoencoder works for one call: others who share it may want it otherwise."""
    vae.use_tiling = tiled
    try:
        yield
    finally:
        vae.use_tiling = False


def _count_eager(
    blocks: CompiledBlocks | None,
    module: torch.nn.Module,
    latents: torch.Tensor,
    conditioning: Conditioning,
) -> None:
    if blocks is not None:
        blocks.count(find_shape(latents, conditioning.prompt_embeds), module)


def _added_conditions(conditioning: Conditioning) -> dict[str, torch.Tensor]:
    """What some families condition the denoiser on beside the text, as diffusers names it."""
    added = {
        "text_embeds": conditioning.pooled_prompt_embeds,
        "time_ids": conditioning.time_ids,
    }
    return {name: value for name, value in added.items() if value is not None}


def _conditioning_scale(scales: Sequence[float], device: torch.device) -> float | torch.Tensor:
    """One number where all rows have the same, else (rows, 1, 1, 1).

    A tensor of float32, because a product with a plain number is computed in float32 too before it
    is rounded to float16.
    """
    if len(set(scales)) == 1:
        return scales[0]
    return torch.tensor(scales, dtype=torch.float32, device=device).view(-1, 1, 1, 1)
