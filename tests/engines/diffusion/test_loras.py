"""LoRAs change what they are to change, as in diffusers, and leave nothing behind."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.loras.adapters import LoraSwitch, build_switch
from atelier_engines.diffusion.loras.catalog import LoraCatalog
from atelier_engines.errors import InvalidTaskError, ModelMissingError, UnsupportedError
from atelier_engines.task import Lora
from tests.engines.diffusion import tiny_sd, write_adapters

PARTS = ("unet", "text_encoder", "text_encoder_2")

STYLE = Lora(name="style", weight=0.7)
FIGURE = Lora(name="fig.ure", weight=-1.5)
KOHYA = Lora(name="kohya", weight=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A directory of LoRAs for the model; not to be changed."""
    made = tmp_path_factory.mktemp("loras")
    write_adapters.write_lora(made / "style", model, seed=1)
    write_adapters.write_lora(made / "fig.ure", model, seed=2, rank=3, text=False)
    write_adapters.write_kohya_lora(made / "kohya.safetensors", model, seed=3)
    return made


@pytest.fixture
def networks(model: Path) -> StableDiffusionXLPipeline:
    """Networks of our own."""
    return loaded(model)


@pytest.fixture
def adapters(folder: Path, networks: StableDiffusionXLPipeline) -> LoraSwitch:
    """Their LoRAs."""
    return made_for(networks, lora_directory=str(folder))


@pytest.fixture
def plain(model: Path) -> StableDiffusionXLPipeline:
    """The same model, in diffusers' hands."""
    return loaded(model)


@pytest.fixture(autouse=True)
def _diffusers_may_warn() -> Iterator[None]:
    """Of a second LoRA in a model, which is what is asked of it here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
        yield


def loaded(model: Path) -> StableDiffusionXLPipeline:
    """The model's networks, as the engine has them: without gradients."""
    made = StableDiffusionXLPipeline.from_pretrained(model, add_watermarker=False)
    made.set_progress_bar_config(disable=True)
    for part in PARTS:
        getattr(made, part).requires_grad_(requires_grad=False)
    return made


def made_for(
    pipeline: StableDiffusionXLPipeline, *, max_loaded: int = 8, **settings: object
) -> LoraSwitch:
    """The LoRAs of a configuration, for these networks."""
    config = DiffusionConfig(**settings)
    return build_switch(
        LoraCatalog(config),
        denoisers=[pipeline.unet],
        text_encoders=[pipeline.text_encoder, pipeline.text_encoder_2],
        max_loaded=max_loaded,
    )


def picture(pipeline: StableDiffusionXLPipeline) -> torch.Tensor:
    """What the networks make of one prompt."""
    made = pipeline(
        "a red apple",
        num_inference_steps=2,
        width=64,
        height=64,
        generator=torch.Generator().manual_seed(7),
        output_type="np",
    )
    return torch.from_numpy(made.images)


def weights(pipeline: StableDiffusionXLPipeline) -> Mapping[str, torch.Tensor]:
    """All tensors of the networks by name."""
    return {
        f"{part}.{name}": tensor.clone()
        for part in PARTS
        for name, tensor in getattr(pipeline, part).state_dict().items()
    }


def same(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    """Whether names and numbers are equal."""
    return list(first) == list(second) and all(
        torch.equal(tensor, second[name]) for name, tensor in first.items()
    )


@pytest.mark.parametrize(
    "loras",
    [(STYLE,), (FIGURE,), (KOHYA,), (STYLE, FIGURE), (FIGURE, STYLE), (KOHYA, FIGURE, STYLE)],
    ids=lambda loras: "+".join(lora.name for lora in loras),
)
def test_every_set_gives_what_diffusers_gives(
    adapters: LoraSwitch,
    networks: StableDiffusionXLPipeline,
    plain: StableDiffusionXLPipeline,
    folder: Path,
    loras: tuple[Lora, ...],
) -> None:
    """Bit by bit: one and several, with weights, in text encoders and denoiser, of both formats."""
    before = picture(plain)
    adapters.activate(loras)
    for index, lora in enumerate(loras):
        path = folder / (
            "kohya.safetensors" if lora is KOHYA else f"{lora.name}/{write_adapters.LORA_FILE}"
        )
        plain.load_lora_weights(path, adapter_name=f"one_{index}")
    names = [f"one_{index}" for index in range(len(loras))]
    plain.set_adapters(names, [lora.weight for lora in loras])
    wanted = picture(plain)
    assert torch.equal(picture(networks), wanted)
    assert (wanted - before).abs().max() > 0.01


def test_without_loras_the_networks_are_what_they_were(
    adapters: LoraSwitch, networks: StableDiffusionXLPipeline
) -> None:
    """The same tensors under the same names, the same modules, the same image."""
    before, modules, wanted = weights(networks), list(networks.unet.modules()), picture(networks)
    adapters.activate((STYLE, KOHYA))
    assert not torch.equal(picture(networks), wanted)
    adapters.activate(())
    assert same(weights(networks), before)
    assert [id(module) for module in networks.unet.modules()] == [id(one) for one in modules]
    assert torch.equal(picture(networks), wanted)


def test_a_set_comes_back_exactly(
    adapters: LoraSwitch, networks: StableDiffusionXLPipeline
) -> None:
    """However many others were active in between."""
    pictures = []
    for loras in ((STYLE,), (FIGURE,), (STYLE,), (), (KOHYA, STYLE), (STYLE,)):
        adapters.activate(loras)
        pictures.append(picture(networks))
    assert torch.equal(pictures[2], pictures[0])
    assert torch.equal(pictures[5], pictures[0])
    assert not torch.equal(pictures[1], pictures[0])
    assert not torch.equal(pictures[4], pictures[0])


def test_a_lora_of_weight_0_is_as_good_as_none(
    adapters: LoraSwitch, networks: StableDiffusionXLPipeline
) -> None:
    """It is not even loaded, and makes no set of its own."""
    wanted = picture(networks)
    nothing = (Lora(name="style", weight=0.0),)
    adapters.activate(nothing)
    assert torch.equal(picture(networks), wanted)
    assert adapters.loaded == ()
    assert adapters.key(nothing) == ()
    assert adapters.key((*nothing, FIGURE)) == (FIGURE,)


def test_the_key_tells_weights_and_orders_apart(adapters: LoraSwitch) -> None:
    """What makes other images has another key."""
    sets = [(), (STYLE,), (Lora(name="style", weight=0.8),), (STYLE, FIGURE), (FIGURE, STYLE)]
    assert len({adapters.key(loras) for loras in sets}) == len(sets)


def test_a_weight_can_change_alone(
    adapters: LoraSwitch, networks: StableDiffusionXLPipeline
) -> None:
    """The LoRA stays loaded, and the image follows."""
    adapters.activate((STYLE,))
    first = picture(networks)
    adapters.activate((Lora(name="style", weight=0.3),))
    assert not torch.equal(picture(networks), first)
    adapters.activate((STYLE,))
    assert torch.equal(picture(networks), first)
    assert adapters.loaded == ("style",)


def test_what_was_used_longest_ago_goes(folder: Path, networks: StableDiffusionXLPipeline) -> None:
    """Its memory is given back, and it is loaded again when it is asked for."""
    adapters = made_for(networks, lora_directory=str(folder), max_loaded=2)
    adapters.activate((STYLE,))
    first = picture(networks)
    adapters.activate((FIGURE,))
    adapters.activate((STYLE,))
    adapters.activate((KOHYA,))
    assert adapters.loaded == ("style", "kohya")
    left = [name for name, _ in networks.unet.named_parameters() if "lora_A" in name]
    assert len({name.rsplit(".", 2)[1] for name in left}) == 2
    adapters.activate((FIGURE,))
    adapters.activate((STYLE,))
    assert torch.equal(picture(networks), first)


def test_a_task_may_ask_for_more_than_are_kept(
    folder: Path, networks: StableDiffusionXLPipeline
) -> None:
    """The bound gives way while they are needed."""
    adapters = made_for(networks, lora_directory=str(folder), max_loaded=1)
    adapters.activate((STYLE, FIGURE, KOHYA))
    assert list(adapters.loaded) == ["style", "fig.ure", "kohya"]
    adapters.activate((FIGURE,))
    assert list(adapters.loaded) == ["fig.ure"]


def drop_a_file(path: Path) -> None:
    """Break it."""
    path.write_bytes(path.read_bytes()[:1000])


def widen(path: Path) -> None:
    """Make it one for another family."""
    tensors = load_file(path)
    key = next(key for key in tensors if key.endswith("to_q.lora_A.weight"))
    tensors[key] = torch.zeros(4, 320)
    save_file(tensors, path)


def displace(path: Path) -> None:
    """Make it one for a model with more blocks."""
    tensors = load_file(path)
    save_file({key.replace("mid_block", "down_blocks.7"): t for key, t in tensors.items()}, path)


def add_weights(path: Path) -> None:
    """Put something else beside it."""
    save_file({**load_file(path), "unet.conv_in.weight": torch.zeros(1)}, path)


def rename_network(path: Path) -> None:
    """Make it one for a transformer."""
    tensors = load_file(path)
    save_file({key.replace("unet.", "transformer."): t for key, t in tensors.items()}, path)


SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "broken": (drop_a_file, "the LoRA bad in .* cannot be read"),
    "another family": (widen, r"the LoRA bad does not match this model: .* \(4, 320\)"),
    "another model": (
        displace,
        "the LoRA bad does not match this model: the model has no down_block",
    ),
    "more than a LoRA": (add_weights, "is not a supported LoRA"),
    "another network": (rename_network, "it is for a model with transformer"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_lora_that_does_not_fit_is_named_and_changes_nothing(
    networks: StableDiffusionXLPipeline, folder: Path, model: Path, tmp_path: Path, what: str
) -> None:
    """The set that was active still is, and others can be asked for."""
    spoil, message = SPOILED[what]
    path = write_adapters.write_lora(tmp_path / "bad", model, seed=9) / write_adapters.LORA_FILE
    spoil(path)
    adapters = made_for(networks, lora_directory=str(folder), loras={"bad": str(path)})
    wanted = picture(networks)
    adapters.activate((STYLE,))
    styled = picture(networks)
    for _ in range(2):
        with pytest.raises(ModelMissingError, match=message):
            adapters.activate((FIGURE, Lora(name="bad")))
    assert torch.equal(picture(networks), styled)
    adapters.activate(())
    assert torch.equal(picture(networks), wanted)
    adapters.activate((STYLE,))
    assert torch.equal(picture(networks), styled)


def test_a_lora_of_sdxl_does_not_fit_stable_diffusion_1(folder: Path, tmp_path: Path) -> None:
    """The families differ in their text encoders at least."""
    networks = StableDiffusionPipeline.from_pretrained(tiny_sd.write(tmp_path, "sd15"))
    adapters = build_switch(
        LoraCatalog(DiffusionConfig(lora_directory=str(folder))),
        denoisers=[networks.unet],
        text_encoders=[networks.text_encoder],
        max_loaded=2,
    )
    with pytest.raises(ModelMissingError, match="the LoRA style does not match this model"):
        adapters.activate((STYLE,))


def test_a_lora_named_twice_is_refused(adapters: LoraSwitch) -> None:
    """Its weights would contradict each other."""
    with pytest.raises(InvalidTaskError, match="name the LoRA style once"):
        adapters.activate((STYLE, Lora(name="style", weight=0.1)))


@pytest.mark.parametrize("name", ["nobody", "../style", "style/../style", "/etc/passwd", ""])
def test_a_name_is_looked_up_and_never_a_path(adapters: LoraSwitch, name: str) -> None:
    """Whatever lies at that path."""
    with pytest.raises(UnsupportedError, match=r"there is fig\.ure, kohya, sketch, style"):
        adapters.activate((Lora(name=name),))
