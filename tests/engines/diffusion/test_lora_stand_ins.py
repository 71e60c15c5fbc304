"""Networks whose weights are compiled into them: torch runs them while LoRAs are active, and they themselves otherwise.

Plans need a GPU to run; ONNX Runtime stands for what runs them here, with its own way of replacing weights left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch

from atelier_engines.diffusion import DiffusionConfig, onnx_loader
from atelier_engines.diffusion.component_loader import TEXT_ENCODERS, ComponentLoader
from atelier_engines.diffusion.loras.adapters import LoraSwitch, build_switch
from atelier_engines.diffusion.loras.catalog import LoraCatalog
from atelier_engines.diffusion.onnx_loader import OnnxLoader
from atelier_engines.diffusion.runtimes.base import Denoiser, TextEncoder
from atelier_engines.diffusion.runtimes.graphs.stand_ins import StandInDenoiser, StandInTextEncoder
from atelier_engines.diffusion.runtimes.onnx.session import OnnxSession
from atelier_engines.diffusion.torch_loader import TorchLoader
from atelier_engines.diffusion.weights.model_files import ModelFiles, find_model_files
from atelier_engines.errors import EngineFailedError
from atelier_engines.local.components import EngineComponents
from atelier_engines.task import Lora
from atelier_tiny import WEIGHTS
from tests.engines.diffusion import write_adapters
from tests.engines.diffusion.test_onnx import assert_same, inputs_of

STYLE, FIGURE = (Lora(name="style"),), (Lora(name="figure"),)


class CompiledLoader(OnnxLoader):
    """Loads sessions whose weights nobody can replace, as those of plans."""

    def replaceable(
        self, session: OnnxSession, kind: type[torch.nn.Module], config: Mapping[str, Any]
    ) -> None:
        """See GraphLoader.replaceable."""
        del session, kind, config


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The networks that LoRAs change, and their switch."""

    denoiser: Denoiser
    encoders: tuple[TextEncoder, ...]
    loras: LoraSwitch

    def run(self, loras: tuple[Lora, ...]) -> tuple[torch.Tensor, ...]:
        """What each computes with these LoRAs."""
        self.loras.activate(loras)
        latents, timesteps, conditioning = inputs_of(2, 8, 8, 77)
        with torch.inference_mode():
            predicted = self.denoiser.predict(latents, timesteps.float(), conditioning)
            tokens = torch.arange(77)[None]
            encoded = [one.encode(tokens, layer=-2).prompt_embeds for one in self.encoders]
        return predicted, *encoded


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DiffusionConfig:
    """The small model with two LoRAs."""
    folder = tmp_path_factory.mktemp("stand-ins")
    write_adapters.write_lora(folder / "loras" / "style", WEIGHTS, seed=1)
    write_adapters.write_kohya_lora(folder / "loras" / "figure.safetensors", WEIGHTS, seed=2)
    return DiffusionConfig.model_validate(
        {
            "device": "cpu",
            "lora_directory": str(folder / "loras"),
            "runtime": {"denoiser": "onnx", "text_encoders": "onnx"},
            "builds_directory": folder / "builds",
        }
    )


@pytest.fixture(scope="module")
def components() -> Iterator[EngineComponents]:
    """Of one engine."""
    made = EngineComponents(
        torch.device("cpu"), memory_budget=None, keep_loaded=False, save_memory=False
    )
    yield made
    made.release()


@pytest.fixture(scope="module")
def files(config: DiffusionConfig) -> ModelFiles:
    """Of the small model."""
    return find_model_files(config)


@pytest.fixture(scope="module")
def torch_loader(components: EngineComponents) -> TorchLoader:
    """Loads networks that LoRAs may change."""
    return TorchLoader(
        components=components,
        dtype=torch.float32,
        vae_dtype=torch.float32,
        changed_by_loras=True,
    )


def load(config: DiffusionConfig, files: ModelFiles, loader: ComponentLoader) -> Model:
    """All that LoRAs change."""
    denoiser = loader.plan_denoiser(files.components["unet"]).acquire()
    encoders = tuple(
        loader.plan_text_encoder(name, files.components[name]).acquire() for name in TEXT_ENCODERS
    )
    targets = [encoder.lora_target for encoder in encoders]
    assert denoiser.lora_target is not None
    switch = build_switch(
        LoraCatalog(config),
        denoisers=[denoiser.lora_target],
        text_encoders=[target for target in targets if target is not None],
        max_loaded=2,
    )
    return Model(denoiser=denoiser, encoders=encoders, loras=switch)


@pytest.fixture(scope="module")
def plain_loader(
    config: DiffusionConfig, files: ModelFiles, components: EngineComponents
) -> OnnxLoader:
    """Loads what runs without LoRAs."""
    return onnx_loader.create(config, files, components)


@pytest.fixture(scope="module")
def model(
    config: DiffusionConfig,
    files: ModelFiles,
    plain_loader: OnnxLoader,
    torch_loader: TorchLoader,
) -> Model:
    """Sessions, with torch's networks to stand in for them."""
    values = {one.name: getattr(plain_loader, one.name) for one in fields(plain_loader)}
    loader = CompiledLoader(**{**values, "stand_in": torch_loader})
    made = load(config, files, loader)
    assert isinstance(made.denoiser, StandInDenoiser)
    assert all(isinstance(encoder, StandInTextEncoder) for encoder in made.encoders)
    return made


@pytest.fixture(scope="module")
def reference(config: DiffusionConfig, files: ModelFiles, torch_loader: TorchLoader) -> Model:
    """Run by torch alone."""
    return load(config, files, torch_loader)


def test_from_one_set_to_another_and_back_nothing_changes(model: Model, reference: Model) -> None:
    """To the bit: with LoRAs it is what torch computes, without it is what the session computes."""
    first = {loras: model.run(loras) for loras in ((), STYLE, FIGURE)}
    for loras in (FIGURE, (), STYLE, FIGURE, (), STYLE):
        for got, before in zip(model.run(loras), first[loras], strict=True):
            assert torch.equal(got, before)
    for loras in (STYLE, FIGURE):
        for got, wanted in zip(first[loras], reference.run(loras), strict=True):
            assert torch.equal(got, wanted)
        assert not torch.allclose(first[loras][0], first[()][0], atol=1e-3)
    for got, wanted in zip(first[()], reference.run(()), strict=True):
        assert_same(got, wanted)
        assert not torch.equal(got, wanted)


def test_a_lora_at_no_weight_changes_nothing(model: Model) -> None:
    """The session runs."""
    plain = model.run(())
    model.run(STYLE)
    for got, wanted in zip(model.run((Lora(name="style", weight=0.0),)), plain, strict=True):
        assert torch.equal(got, wanted)


def test_stand_ins_are_loaded_for_loras_alone(
    files: ModelFiles, plain_loader: OnnxLoader, torch_loader: TorchLoader
) -> None:
    """They take memory: an engine without LoRAs has none. What has no layers cannot stand in."""
    values = {one.name: getattr(plain_loader, one.name) for one in fields(plain_loader)}
    unet = files.components["unet"]
    without = CompiledLoader(**{**values, "stand_in": torch_loader, "changed_by_loras": False})
    assert len(without.plan_denoiser(unet).specs) == 1
    with_them = CompiledLoader(**{**values, "stand_in": torch_loader})
    assert len(with_them.plan_denoiser(unet).specs) == 2
    session = without.plan_denoiser(unet).acquire()
    with pytest.raises(EngineFailedError, match="only what torch runs can stand in"):
        StandInDenoiser(session, session)
