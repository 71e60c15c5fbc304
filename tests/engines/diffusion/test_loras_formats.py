"""LoRAs of every format change what the merged weights change, or are rejected with the format's name."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.loras.adapters import LoraSwitch, build_switch
from atelier_engines.diffusion.loras.catalog import LoraCatalog
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.torch_module import TorchModule
from atelier_engines.task import Lora
from tests.engines.diffusion import tiny_sd
from tests.engines.diffusion.lora_formats import FORMATS, Written

FAMILIES = ("sd15", "sd21", "sdxl")


def parts(pipeline: DiffusionPipeline) -> Mapping[str, torch.nn.Module]:
    """The components that LoRAs change."""
    names = ("unet", "text_encoder", "text_encoder_2")
    return {name: getattr(pipeline, name) for name in names if hasattr(pipeline, name)}


def render(pipeline: DiffusionPipeline) -> torch.Tensor:
    """An image of two steps, from 0 to 255."""
    made = pipeline(
        "a red apple",
        num_inference_steps=2,
        width=64,
        height=64,
        generator=torch.Generator().manual_seed(7),
        output_type="np",
    )
    return torch.from_numpy(made.images) * 255


def switch(pipeline: DiffusionPipeline, folder: Path) -> LoraSwitch:
    """The LoRAs of a directory, for these components."""
    encoders = [module for name, module in parts(pipeline).items() if name != "unet"]
    return build_switch(
        LoraCatalog(DiffusionConfig(model="somewhere", lora_directory=str(folder))),
        denoisers=[pipeline.unet],
        text_encoders=encoders,
        max_loaded=3,
    )


@pytest.fixture(scope="module", params=FAMILIES)
def pipeline(
    request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> DiffusionPipeline:
    """A small model of each family."""
    if request.param == "sdxl":
        made = StableDiffusionXLPipeline.from_pretrained(model, add_watermarker=False)
    else:
        folder = tiny_sd.write(tmp_path_factory.mktemp("model"), request.param)
        made = StableDiffusionPipeline.from_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    for part in parts(made).values():
        part.requires_grad_(requires_grad=False)
    return made


def write(pipeline: DiffusionPipeline, name: str, path: Path) -> Written:
    """A LoRA of a format for this model."""
    torch.manual_seed(5)
    written = Written(parts(pipeline))
    FORMATS[name](written)
    written.save(path)
    return written


def merged_image(pipeline: DiffusionPipeline, written: Written, weight: float) -> torch.Tensor:
    """The image of weights to which the changes were added."""
    own = {name: copy.deepcopy(part) for name, part in parts(pipeline).items()}
    for (network, place, kind), change in written.sums.items():
        getattr(own[network].get_submodule(place), kind).data += change * weight
    merged = type(pipeline)(**{**pipeline.components, **own})
    merged.set_progress_bar_config(disable=True)
    return render(merged)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_the_image_of_the_merged_weights(
    pipeline: DiffusionPipeline, tmp_path: Path, name: str
) -> None:
    """In every family, at a weight other than 1."""
    written = write(pipeline, name, tmp_path / "one.safetensors")
    plain, wanted = render(pipeline), merged_image(pipeline, written, 0.8)
    loras = switch(pipeline, tmp_path)
    loras.activate((Lora(name="one", weight=0.8),))
    made = render(pipeline)
    loras.activate(())
    assert (made - wanted).abs().max() < 1
    assert (made - plain).abs().max() > 3
    assert torch.equal(render(pipeline), plain)


def test_formats_mix_and_come_back_to_the_bit(pipeline: DiffusionPipeline, tmp_path: Path) -> None:
    """From one set to another and back, and to the plain model's weights."""
    names = {"a": "LoHa", "b": "DoRA by input", "c": "kohya, by layer", "d": "difference"}
    for stem, name in names.items():
        write(pipeline, name, tmp_path / f"{stem}.safetensors")
    before = {n: t.clone() for n, t in pipeline.unet.state_dict().items()}
    loras = switch(pipeline, tmp_path)
    sets = [("a",), ("b", "c"), ("a",), ("d", "a"), ("b", "c"), ()]
    made = []
    for stems in sets:
        loras.activate([Lora(name=stem, weight=0.6) for stem in stems])
        made.append(render(pipeline))
    assert torch.equal(made[0], made[2])
    assert torch.equal(made[1], made[4])
    assert not torch.equal(made[0], made[1])
    after = pipeline.unet.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


REJECTED = {
    "OFT": ("lora_unet_mid_block_resnets_0_conv1.oft_blocks", "OFT"),
    "GLoRA": ("lora_unet_mid_block_resnets_0_conv1.a1.weight", "GLoRA"),
    "IA3": ("lora_unet_mid_block_resnets_0_conv1.on_input", "multiplies the weights"),
    "Control-LoRA": ("lora_controlnet", "Control-LoRA"),
    "embedding": ("emb_params", "textual inversion embedding"),
    "whole model": ("model.diffusion_model.out.2.weight", "a whole model"),
    "unknown": ("lora_unet_conv_in.novel_w1", "of no known format"),
}


@pytest.mark.parametrize("kind", REJECTED)
def test_a_format_that_cannot_be_applied_is_rejected_by_name(
    pipeline: DiffusionPipeline, tmp_path: Path, kind: str
) -> None:
    """With the key that tells, even beside layers that could be applied."""
    key, message = REJECTED[kind]
    path = tmp_path / "bad.safetensors"
    write(pipeline, "kohya, by layer", path)
    save_file({**load_file(path), key: torch.zeros(2, 2)}, path)
    plain = render(pipeline)
    with pytest.raises(ModelMissingError, match=message) as raised:
        switch(pipeline, tmp_path).activate((Lora(name="bad"),))
    assert key in str(raised.value)
    assert torch.equal(render(pipeline), plain)


@pytest.mark.parametrize("part", ["lora_up.weight", "hada_w2_b", "lokr_w2", "dora_scale"])
def test_a_change_that_lacks_a_part_is_rejected(
    pipeline: DiffusionPipeline, tmp_path: Path, part: str
) -> None:
    """One half of a product, or a magnitude alone, says nothing."""
    path = tmp_path / "bad.safetensors"
    save_file({f"lora_unet_conv_in.{part}": torch.ones(1, 4)}, path)
    with pytest.raises(ModelMissingError, match="make up no change"):
        switch(pipeline, tmp_path).activate((Lora(name="bad"),))


BROKEN: Mapping[str, tuple[Mapping[str, torch.Tensor], str]] = {
    "rank of 0": (
        {"lora_down.weight": torch.zeros(0, 4, 3, 3), "lora_up.weight": torch.zeros(32, 0, 1, 1)},
        "holds no number",
    ),
    "LoHa of rank 0": (
        {
            f"hada_w{n}_{part}": torch.zeros(*(0, 36)[:: 1 if part == "b" else -1])
            for n in "12"
            for part in "ab"
        },
        "holds no number",
    ),
    "numbers without a dimension": (
        {"lora_down.weight": torch.tensor(1.0), "lora_up.weight": torch.tensor(1.0)},
        "does not fit the layer's weight",
    ),
    "difference without a dimension": (
        {"diff": torch.tensor(1.0)},
        "does not fit the layer's weight",
    ),
    "alpha without a number": (
        {
            "lora_down.weight": torch.zeros(2, 4),
            "lora_up.weight": torch.zeros(4, 2),
            "alpha": torch.zeros(0),
        },
        "alpha holds no number",
    ),
    "alpha alone": ({"alpha": torch.tensor(1.0)}, "no change of a layer"),
    "integers": (
        {"lora_down.weight": torch.ones(2, 4).to(torch.int8), "lora_up.weight": torch.ones(4, 2)},
        "numbers of the type int8",
    ),
    "complex numbers": (
        {
            "lora_down.weight": torch.ones(2, 4).to(torch.complex64),
            "lora_up.weight": torch.ones(4, 2),
        },
        "numbers of the type complex64",
    ),
}
"""Parts of a change of the first convolution that make up none, and what is said of them."""


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_no_fault_of_the_engine(
    pipeline: DiffusionPipeline, tmp_path: Path, kind: str
) -> None:
    """Faults of the engine open its circuit breaker, and then it serves nobody."""
    parts, message = BROKEN[kind]
    own = {f"lora_unet_conv_in.{part}": tensor for part, tensor in parts.items()}
    save_file(own, tmp_path / "bad.safetensors")
    with pytest.raises(ModelMissingError, match=message) as raised:
        switch(pipeline, tmp_path).activate((Lora(name="bad"),))
    assert str(tmp_path) not in str(raised.value), "callers are told no directories of the server"


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 a pickle of earlier days"])
def test_a_file_that_cannot_be_read_is_named_without_its_directory(
    pipeline: DiffusionPipeline, tmp_path: Path, content: bytes | None
) -> None:
    """Removed after the start, empty, or no safetensors file."""
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"")
    loras = switch(pipeline, tmp_path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelMissingError, match=r"bad\.safetensors cannot be read") as raised:
        loras.activate((Lora(name="bad"),))
    assert str(tmp_path) not in str(raised.value)


def test_a_magnitude_of_a_norm_is_rejected(pipeline: DiffusionPipeline, tmp_path: Path) -> None:
    """Its weight has one dimension, and so no direction."""
    norm = pipeline.unet.get_submodule("conv_norm_out").weight
    own = {"w_norm": torch.zeros_like(norm), "dora_scale": torch.ones(len(norm), 1)}
    save_file(
        {f"lora_unet_conv_norm_out.{p}": t for p, t in own.items()}, tmp_path / "bad.safetensors"
    )
    with pytest.raises(ModelMissingError, match="does not fit"):
        switch(pipeline, tmp_path).activate((Lora(name="bad"),))


def test_a_bundled_embedding_does_not_hinder(pipeline: DiffusionPipeline, tmp_path: Path) -> None:
    """The LoRA beside it is applied."""
    path = tmp_path / "one.safetensors"
    written = write(pipeline, "kohya, by layer", path)
    save_file({**load_file(path), "bundle_emb.word.clip_l": torch.ones(1, 4)}, path)
    loras = switch(pipeline, tmp_path)
    loras.activate((Lora(name="one"),))
    made = render(pipeline)
    loras.activate(())
    assert (made - merged_image(pipeline, written, 1.0)).abs().max() < 1


def test_a_layer_that_is_named_twice_is_rejected(
    pipeline: DiffusionPipeline, tmp_path: Path
) -> None:
    """In two spellings, of which one would be dropped."""
    path = tmp_path / "bad.safetensors"
    write(pipeline, "PEFT's prefix", path)
    tensors = load_file(path)
    twice = {key.replace("base_model.model.", "unet."): one + 1 for key, one in tensors.items()}
    save_file({**tensors, **twice}, path)
    with pytest.raises(ModelMissingError, match="twice"):
        switch(pipeline, tmp_path).activate((Lora(name="bad"),))


def test_merged_changes_outlive_weights_that_are_dropped_and_loaded_again(
    model: Path, tmp_path: Path
) -> None:
    """As the model cache does, with the same LoRA before and after, and with the plain model after."""
    made = StableDiffusionXLPipeline.from_pretrained(model, add_watermarker=False)
    made.set_progress_bar_config(disable=True)
    cached = TorchModule(lambda: type(made.unet).from_pretrained(model / "unet").eval())
    made.unet = cached.module
    plain = render(made)
    write(made, "LoHa", tmp_path / "one.safetensors")
    loras = switch(made, tmp_path)
    loras.activate((Lora(name="one"),))
    wanted = render(made)
    assert not torch.equal(wanted, plain)
    cached.offload(keep_in_ram=False)
    loras.activate((Lora(name="one"),))
    cached.restore(torch.device("cpu"))
    assert torch.equal(render(made), wanted)
    cached.offload(keep_in_ram=False)
    loras.activate(())
    cached.restore(torch.device("cpu"))
    assert torch.equal(render(made), plain)


@pytest.mark.parametrize("name", ["kohya, by layer", "LoHa", "difference"])
def test_a_lora_can_be_loaded_while_the_weights_are_dropped(
    model: Path, tmp_path: Path, name: str
) -> None:
    """The shapes are known without them."""
    made = StableDiffusionXLPipeline.from_pretrained(model, add_watermarker=False)
    made.set_progress_bar_config(disable=True)
    cached = TorchModule(lambda: type(made.unet).from_pretrained(model / "unet").eval())
    made.unet = cached.module
    written = write(made, name, tmp_path / "one.safetensors")
    wanted = merged_image(made, written, 1.0)
    loras = switch(made, tmp_path)
    cached.offload(keep_in_ram=False)
    loras.activate((Lora(name="one"),))
    cached.restore(torch.device("cpu"))
    assert (render(made) - wanted).abs().max() < 1


def test_alpha_beside_a_file_of_peft_is_used(model: Path, tmp_path: Path) -> None:
    """`adapter_config.json` has it."""
    made = StableDiffusionXLPipeline.from_pretrained(model, add_watermarker=False)
    made.set_progress_bar_config(disable=True)
    (tmp_path / "one").mkdir()
    written = write(made, "PEFT's prefix", tmp_path / "one" / "adapter_model.safetensors")
    (tmp_path / "one" / "adapter_config.json").write_text(json.dumps({"r": 3, "lora_alpha": 6}))
    loras = switch(made, tmp_path)
    loras.activate((Lora(name="one"),))
    doubled = render(made)
    loras.activate(())
    assert (doubled - merged_image(made, written, 2.0)).abs().max() < 1
