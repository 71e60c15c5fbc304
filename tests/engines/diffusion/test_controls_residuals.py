"""Rows of one run follow their own controls, and those without any are left alone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, MultiControlNetModel, UNet2DConditionModel

from atelier_engines.diffusion.controls.prepared_control import PreparedControl
from atelier_engines.diffusion.controls.residuals import ControlInput, compute_residuals
from atelier_engines.diffusion.runtimes.base import Conditioning, Residuals, Runtime
from atelier_engines.diffusion.runtimes.torch import (
    TorchAutoencoder,
    TorchControlNet,
    TorchDenoiser,
)
from atelier_engines.diffusion.sampler import ModelInput
from tests.engines.diffusion import write_adapters

CPU = torch.device("cpu")
ROWS = 4


@pytest.fixture(scope="module")
def runtime(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """A denoiser with two ControlNets."""
    folder = tmp_path_factory.mktemp("controls")
    nets = {
        name: TorchControlNet(
            ControlNetModel.from_pretrained(
                write_adapters.write_controlnet(folder / name, model, seed=seed)
            )
        )
        for seed, name in enumerate(("canny", "depth"))
    }
    return Runtime(
        text_encoders=(),
        denoiser=TorchDenoiser(UNet2DConditionModel.from_pretrained(model / "unet")),
        autoencoder=TorchAutoencoder(AutoencoderKL.from_pretrained(model / "vae"), CPU),
        device=CPU,
        dtype=torch.float32,
        controlnets=nets,
    )


def rows() -> ModelInput:
    """Rows at different steps."""
    drawn = torch.Generator().manual_seed(1)
    return ModelInput(
        latents=torch.randn(ROWS, 4, 8, 8, generator=drawn),
        timesteps=torch.tensor([900.0, 500.0, 300.0, 10.0]),
    )


def conditioning() -> Conditioning:
    """Something to say for each of them."""
    drawn = torch.Generator().manual_seed(2)
    return Conditioning(
        prompt_embeds=torch.randn(ROWS, 77, 96, generator=drawn),
        pooled_prompt_embeds=torch.randn(ROWS, 64, generator=drawn),
        time_ids=torch.randn(ROWS, 6, generator=drawn),
    )


def hint(network: str, seed: int, scale: float = 1.0) -> ControlInput:
    """Something to follow."""
    drawn = torch.Generator().manual_seed(seed)
    return ControlInput(network=network, map=torch.rand(1, 3, 64, 64, generator=drawn), scale=scale)


def module_of(runtime: Runtime, name: str) -> ControlNetModel:
    """The module that a ControlNet runs."""
    controlnet = runtime.controlnets[name]
    assert isinstance(controlnet, TorchControlNet)
    return controlnet.module


def of_row(runtime: Runtime, row: int, hints: list[ControlInput]) -> Residuals:
    """What diffusers' own sum over several ControlNets is for one row alone."""
    own, all_rows, words = [one.network for one in hints], rows(), conditioning()
    assert words.pooled_prompt_embeds is not None
    assert words.time_ids is not None
    down, mid = MultiControlNetModel([module_of(runtime, name) for name in own])(
        all_rows.latents[row : row + 1],
        all_rows.timesteps[row],
        words.prompt_embeds[row : row + 1],
        [one.map for one in hints],
        [one.scale for one in hints],
        added_cond_kwargs={
            "text_embeds": words.pooled_prompt_embeds[row : row + 1],
            "time_ids": words.time_ids[row : row + 1],
        },
        return_dict=False,
    )
    return Residuals(down=tuple(down), mid=mid)


@torch.inference_mode()
def test_each_row_follows_its_own(runtime: Runtime) -> None:
    """None, one, two in another order, the same network twice; each as if it were alone."""
    hints = [
        [hint("canny", 1, 0.5)],
        [],
        [hint("depth", 2), hint("canny", 3, 2.0)],
        [hint("canny", 4, 0.3), hint("canny", 5), hint("depth", 6)],
    ]
    made = compute_residuals(runtime.controlnets, rows(), conditioning(), hints)
    assert made is not None
    for row, own in enumerate(hints):
        parts = [*made.down, made.mid]
        if not own:
            assert not any(part[row].any() for part in parts)
            continue
        wanted = of_row(runtime, row, own)
        for part, alone in zip(parts, [*wanted.down, wanted.mid], strict=True):
            assert torch.allclose(part[row], alone[0], atol=1e-5)
            assert alone.any()


@torch.inference_mode()
def test_rows_without_a_control_are_denoised_as_ever(runtime: Runtime) -> None:
    """The zeros that they get change nothing."""
    hints = [[hint("canny", 1)], [], [hint("canny", 1, 0.0)], [hint("depth", 1)]]
    made = compute_residuals(runtime.controlnets, rows(), conditioning(), hints)
    plain = runtime.denoiser.predict(rows().latents, rows().timesteps, conditioning())
    steered = runtime.denoiser.predict(rows().latents, rows().timesteps, conditioning(), made)
    same = [torch.equal(steered[row], plain[row]) for row in range(ROWS)]
    assert same == [False, True, True, False]


@torch.inference_mode()
def test_a_run_in_which_nobody_follows_anything_runs_no_network(runtime: Runtime) -> None:
    """Nor do hints without weight count."""
    assert compute_residuals(runtime.controlnets, rows(), conditioning(), [[]] * ROWS) is None
    idle = [[hint("canny", 1, 0.0)]] * ROWS
    assert compute_residuals(runtime.controlnets, rows(), conditioning(), idle) is None


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [
        (0.0, 1.0, [2.0, 2.0, 2.0, 2.0, 2.0]),
        (0.2, 1.0, [0.0, 2.0, 2.0, 2.0, 2.0]),
        (0.3, 1.0, [0.0, 0.0, 2.0, 2.0, 2.0]),
        (0.0, 0.6, [2.0, 2.0, 2.0, 0.0, 0.0]),
        (0.0, 0.59, [2.0, 2.0, 0.0, 0.0, 0.0]),
        (0.4, 0.6, [0.0, 0.0, 2.0, 0.0, 0.0]),
        (0.45, 0.55, [0.0, 0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_a_control_is_followed_in_its_span(start: float, end: float, wanted: list[float]) -> None:
    """A step counts when all of it lies in the span."""
    active = PreparedControl(
        network="canny", map=torch.zeros(1, 3, 8, 8), strength=2.0, start=start, end=end
    )
    assert [active.scale_at(run, 5) for run in range(5)] == wanted
    assert math.isclose(active.scale_at(0, 1), 2.0 if (start, end) == (0.0, 1.0) else 0.0)
