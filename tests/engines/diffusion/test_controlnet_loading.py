"""Which ControlNets are taken, from directories and files, and how others are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from atelier_engines.capabilities import ImageFeature
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.controls import config_controls, controlnet_loading
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import digests
from atelier_engines.task import ControlType
from tests.engines.diffusion import write_adapters

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path: Path, model: Path) -> Path:
    """A ControlNet for the model, to be spoiled."""
    return write_adapters.write_controlnet(tmp_path / "canny", model, seed=1)


@pytest.fixture(scope="module")
def denoiser(model: Path) -> UNet2DConditionModel:
    """What it is to steer."""
    made: UNet2DConditionModel = UNet2DConditionModel.from_pretrained(model / "unet")
    return made


def load(path: Path, denoiser: UNet2DConditionModel) -> ControlNetModel:
    """On the CPU, in float32."""
    return controlnet_loading.load(
        path, denoiser.config, device=torch.device("cpu"), dtype=torch.float32
    )


def config(**settings: object) -> DiffusionConfig:
    """An engine's settings."""
    return DiffusionConfig.model_validate(settings)


def same(first: ControlNetModel, second: ControlNetModel) -> bool:
    """Whether two networks have the same weights."""
    others = second.state_dict()
    return all(torch.equal(weight, others[name]) for name, weight in first.state_dict().items())


def test_a_directory_and_its_file_alone_are_the_same_network(
    folder: Path, denoiser: UNet2DConditionModel
) -> None:
    """A file has no settings; they are the denoiser's."""
    wanted = ControlNetModel.from_pretrained(folder)
    for path in (folder, folder / WEIGHTS):
        made = load(path, denoiser)
        assert same(made, wanted)
        assert not made.training
        assert not any(weight.requires_grad for weight in made.parameters())


def test_it_computes_in_what_is_asked_for(folder: Path, denoiser: UNet2DConditionModel) -> None:
    """From a directory and from a file."""
    for path in (folder, folder / WEIGHTS):
        made = controlnet_loading.load(
            path, denoiser.config, device=torch.device("cpu"), dtype=torch.bfloat16
        )
        assert {weight.dtype for weight in made.parameters()} == {torch.bfloat16}


def change(folder: Path, **changes: object) -> None:
    """Change its settings."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


def lose(folder: Path) -> None:
    """Save all tensors but one."""
    tensors = load_file(folder / WEIGHTS)
    del tensors["controlnet_mid_block.bias"]
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def pickle(folder: Path) -> None:
    """Put a pickle in place of the safetensors."""
    torch.save(load_file(folder / WEIGHTS), folder / "diffusion_pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def truncate(folder: Path) -> None:
    """Lose the second half, as a broken download does."""
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a union": (
        lambda folder: change(folder, _class_name="ControlNetUnionModel"),
        "is a ControlNetUnionModel, not a ControlNetModel",
    ),
    "pooled": (
        lambda folder: change(folder, global_pool_conditions=True),
        "global_pool_conditions is True, not False",
    ),
    "incomplete": (lose, "1 tensors are missing or of another shape, controlnet_mid_block.bias"),
    "pickle": (pickle, r"\.bin is refused"),
    "truncated": (truncate, "cannot be loaded"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_spoiled_network_is_refused_with_a_reason(
    folder: Path, denoiser: UNet2DConditionModel, what: str
) -> None:
    """The message names the directory, or what is wrong with it."""
    spoil, reason = SPOILED[what]
    spoil(folder)
    with pytest.raises(ModelMissingError, match=reason):
        load(folder, denoiser)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(lose, "does not match the model's denoiser"), (truncate, "cannot be loaded")],
)
def test_a_spoiled_file_is_refused_too(
    folder: Path, denoiser: UNet2DConditionModel, spoil: Callable[[Path], None], reason: str
) -> None:
    """Nothing is filled up with random numbers."""
    spoil(folder)
    with pytest.raises(ModelMissingError, match=reason):
        load(folder / WEIGHTS, denoiser)


def test_a_file_of_another_kind_is_refused(model: Path, denoiser: UNet2DConditionModel) -> None:
    """A whole denoiser for instance."""
    with pytest.raises(ModelMissingError, match="does not match the model's denoiser as a Contr"):
        load(model / "unet" / WEIGHTS, denoiser)


def test_they_are_found_by_their_kind(folder: Path, tmp_path: Path) -> None:
    """And one that is not there is told."""
    both = config(controlnets={"canny": str(folder), "depth": str(folder / WEIGHTS)})
    assert controlnet_loading.resolve_paths(both) == {"canny": folder, "depth": folder / WEIGHTS}
    with pytest.raises(ModelMissingError, match="there is no directory"):
        controlnet_loading.resolve_paths(config(controlnets={"pose": str(tmp_path / "gone")}))


def test_the_digest_is_that_of_the_weights(folder: Path) -> None:
    """Of a file its own, of a directory that of sha256sum's lines."""
    own = digests.digest_file(folder / WEIGHTS)
    assert controlnet_loading.digest(folder / WEIGHTS) == own
    assert controlnet_loading.digest(folder) == digests.digest_lines({WEIGHTS: own})


def test_what_is_offered_follows_from_the_settings_alone() -> None:
    """Kinds in the order in which they are defined; maps of photos where a model is configured."""
    none = config(model="somewhere")
    assert config_controls.control_types(none) == ()
    assert config_controls.max_controls(none) == 0
    assert config_controls.features(none) == frozenset()
    depth = config(model="somewhere", controlnets={"depth": "d"}, max_controls=2)
    assert config_controls.control_types(depth) == (ControlType.DEPTH,)
    assert config_controls.max_controls(depth) == 2
    assert config_controls.features(depth) == {ImageFeature.CONTROLNET}
    both = config(
        model="somewhere",
        controlnets={"pose": "p", "canny": "c", "depth": "d"},
        preprocessors={"depth": "e", "segmentation": "s"},
    )
    assert config_controls.control_types(both) == (
        ControlType.CANNY,
        ControlType.DEPTH,
        ControlType.POSE,
    )
    assert config_controls.preprocessed_types(both) == {ControlType.CANNY, ControlType.DEPTH}
    assert ImageFeature.CONTROL_PREPROCESSING in config_controls.features(both)
