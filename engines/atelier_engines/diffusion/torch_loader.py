"""Acquires the components that torch runs, each as the runtime's component of its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from atelier_engines.diffusion import component_loading
from atelier_engines.diffusion.component_loader import TEXT_ENCODERS, PlannedComponent
from atelier_engines.diffusion.controls import controlnet_loading
from atelier_engines.diffusion.runtimes.base import Autoencoder, ControlNet, Denoiser, TextEncoder
from atelier_engines.diffusion.runtimes.compiled_blocks import CompiledBlocks
from atelier_engines.diffusion.runtimes.torch import (
    TorchAutoencoder,
    TorchControlNet,
    TorchDenoiser,
    TorchTextEncoder,
)
from atelier_engines.diffusion.weights.model_files import (
    ComponentSource,
    MergedComponent,
    SingleFileComponent,
    weight_files,
)
from atelier_engines.local.components import ComponentSpec, EngineComponents
from atelier_engines.local.torch_module import TorchModule
from atelier_engines.local.weights import safetensors_header

ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchLoader:
    """See ComponentLoader."""

    components: EngineComponents
    """Where they are acquired."""
    dtype: torch.dtype
    """The type that all but the autoencoder compute in."""
    vae_dtype: torch.dtype
    """The type that the autoencoder computes in."""
    channels_last: bool = False
    """Whether the convolutions of denoiser and ControlNets are stored so."""
    blocks: CompiledBlocks | None = None
    """Compiles the repeated blocks of denoiser and ControlNets; None where they are not compiled."""
    changed_by_loras: bool = False
    """Whether LoRAs may change denoiser and text encoders."""

    def plan_denoiser(self, source: ComponentSource) -> PlannedComponent[Denoiser]:
        """See ComponentLoader.plan_denoiser."""
        spec = self._specify(
            UNet2DConditionModel,
            "unet",
            source,
            dtype=self.dtype,
            runs_every_step=True,
            exclusive=self.changed_by_loras,
        )

        def acquire() -> Denoiser:
            lease = self.components.acquire(spec)
            return TorchDenoiser(lease.resident.module, lease.run, blocks=self.blocks)

        return PlannedComponent(specs=(spec,), acquire=acquire)

    def plan_autoencoder(self, source: ComponentSource) -> PlannedComponent[Autoencoder]:
        """See ComponentLoader.plan_autoencoder."""
        spec = self._specify(AutoencoderKL, "vae", source, dtype=self.vae_dtype)

        def acquire() -> Autoencoder:
            lease = self.components.acquire(spec)
            return TorchAutoencoder(lease.resident.module, self.components.device, lease.run)

        return PlannedComponent(specs=(spec,), acquire=acquire)

    def plan_text_encoder(
        self, name: str, source: ComponentSource
    ) -> PlannedComponent[TextEncoder]:
        """See ComponentLoader.plan_text_encoder."""
        spec = self._specify(
            TEXT_ENCODERS[name],
            name,
            source,
            dtype=self.dtype,
            exclusive=self.changed_by_loras,
        )

        def acquire() -> TextEncoder:
            lease = self.components.acquire(spec)
            return TorchTextEncoder(lease.resident.module, self.components.device, lease.run)

        return PlannedComponent(specs=(spec,), acquire=acquire)

    def plan_controlnet(
        self, name: str, path: Path, unet_config: Mapping[str, Any]
    ) -> PlannedComponent[ControlNet]:
        """See ComponentLoader.plan_controlnet."""
        files = controlnet_loading.list_files(path)

        def load() -> ControlNetModel:
            module = controlnet_loading.load(
                path, unet_config, device=self.components.device, dtype=self.dtype
            )
            return component_loading.prepare(
                module, channels_last=self.channels_last, blocks=self.blocks
            )

        spec = ComponentSpec(
            name=f"ControlNet {name}",
            kind=ControlNetModel.__name__,
            files=files,
            size=safetensors_header.estimate_bytes(files, self.dtype),
            dtype=self.dtype,
            form=self._form("", runs_every_step=True),
            load=partial(TorchModule, load),
            runs_every_step=True,
        )

        def acquire() -> ControlNet:
            lease = self.components.acquire(spec)
            return TorchControlNet(lease.resident.module, lease.run, blocks=self.blocks)

        return PlannedComponent(specs=(spec,), acquire=acquire)

    def _specify(
        self,
        kind: type[ModuleT],
        name: str,
        source: ComponentSource,
        *,
        dtype: torch.dtype,
        runs_every_step: bool = False,
        exclusive: bool = False,
    ) -> ComponentSpec[TorchModule[ModuleT]]:
        base = source.base if isinstance(source, MergedComponent) else source
        prefix = base.prefix if isinstance(base, SingleFileComponent) else ""
        load = partial(
            component_loading.load,
            kind,
            source,
            dtype,
            self.components.device,
            channels_last=self.channels_last and runs_every_step,
            blocks=self.blocks if runs_every_step else None,
        )
        return ComponentSpec(
            name=name,
            kind=kind.__name__,
            files=weight_files(source),
            size=safetensors_header.estimate_bytes(weight_files(base), dtype, prefix=prefix),
            dtype=dtype,
            form=self._form(prefix, runs_every_step=runs_every_step),
            load=partial(TorchModule, load),
            runs_every_step=runs_every_step,
            exclusive=exclusive,
        )

    def _form(self, prefix: str, *, runs_every_step: bool) -> str:
        """What tells components of the same files apart."""
        options = {
            prefix: bool(prefix),
            "channels last": self.channels_last and runs_every_step,
            "compiled": self.blocks is not None and runs_every_step,
        }
        return ", ".join(option for option, is_set in options.items() if is_set)
