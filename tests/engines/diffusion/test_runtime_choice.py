"""What runs the components where the configuration leaves it to the engine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from atelier_engines.diffusion import DiffusionConfig, runtime_choice
from atelier_engines.diffusion.builds import preparation
from atelier_engines.diffusion.builds.onnx_builds import OnnxBuilder
from atelier_engines.local.builds.store import BuildStore
from tests.engines.diffusion.test_builds import network

__all__ = ["network"]

ALL = ("text_encoders", "denoiser", "controlnets", "autoencoder")


def chosen(settings: Mapping[str, object], device: str = "cpu") -> set[str]:
    """The components that ONNX Runtime runs."""
    config = DiffusionConfig.model_validate(settings)
    found = runtime_choice.decide(config, torch.device(device)).runtimes.by_component
    return {name for name, runtime in found.items() if runtime == "onnx"}


@pytest.mark.parametrize(
    ("settings", "by_torch"),
    [
        ({}, ()),
        ({"precision": "float32"}, ()),
        ({"precision": "bfloat16"}, ALL),
        ({"model": "owner/name"}, ALL),
        ({"runtime": "torch"}, ALL),
        ({"runtime": {"denoiser": "onnx"}}, ("text_encoders", "controlnets", "autoencoder")),
        ({"compile": "regions"}, ("denoiser", "controlnets")),
        ({"channels_last": True}, ("denoiser", "controlnets")),
        ({"variants": {4: "a.safetensors"}}, ("denoiser",)),
        ({"controlnets": {"depth": "a"}}, ("controlnets",)),
        ({"vae": "owner/vae"}, ("autoencoder",)),
        ({"vae_precision": "bfloat16"}, ("autoencoder",)),
    ],
)
def test_onnx_runs_what_it_can_of_the_small_model(
    settings: Mapping[str, object], by_torch: tuple[str, ...]
) -> None:
    """On a CPU, unless a setting needs torch or says what to use."""
    assert chosen(settings) == set(ALL) - set(by_torch)


def test_a_card_runs_torch() -> None:
    """ONNX Runtime is for CPUs here."""
    assert chosen({}, "cuda") == set()


def test_torch_stands_in_where_nothing_can_be_built(
    network: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a container whose file system is read-only; where a runtime was asked for by name that is an error."""
    (tmp_path / "file").write_bytes(b"no directory")
    builder = OnnxBuilder(store=BuildStore(directory=tmp_path / "file" / "builds"))
    caplog.set_level(logging.WARNING, logger="atelier_engines")
    made = preparation.prepare(builder, [network], "build_or_fallback")  # type: ignore[list-item]  # a fixture
    assert not made.held
    assert "Not a directory" in made.missing["denoiser"]
    (record,) = [one for one in caplog.records if one.msg == "runtime_fallback_used"]
    assert vars(record)["component"] == "denoiser"
    with pytest.raises(NotADirectoryError):
        preparation.prepare(builder, [network], "build")  # type: ignore[list-item]  # a fixture
