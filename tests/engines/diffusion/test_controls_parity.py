"""Controls and LoRAs in the engine give what diffusers' pipelines give, bit by bit on the CPU."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLPipeline,
)
from numpy.typing import NDArray
from PIL import Image

from atelier_engines.capabilities import ImageFeature
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.diffusion.controls.edges import canny_edges
from atelier_engines.errors import ModelMissingError, UnsupportedError
from atelier_engines.media import Pixels
from atelier_engines.task import Control, ControlType, ImageTask, Lora
from tests.engines.diffusion import tiny_sd, tiny_sdxl, write_adapters
from tests.engines.diffusion.calls import generate_images, image_task
from tests.engines.diffusion.test_parity import SCHEDULERS
from tests.engines.diffusion.test_parity import reference as of_words
from tests.engines.diffusion.test_parity_init_images import mask, photo

CANNY, DEPTH = ControlType.CANNY, ControlType.DEPTH
STYLE, KOHYA = Lora(name="style", weight=0.8), Lora(name="kohya", weight=-0.4)


def control(kind: ControlType = CANNY, **changes: object) -> Control:
    """A control with a map of its own."""
    image = Pixels(array=photo().array[::-1] if kind is DEPTH else photo().array)
    usual: dict[str, Any] = {"type": kind, "image": image, **changes}
    return Control(**usual)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """ControlNets and LoRAs."""
    made = tmp_path_factory.mktemp("steering")
    write_adapters.write_controlnet(made / "canny", model, seed=1)
    write_adapters.write_controlnet(made / "depth", model, seed=2)
    write_adapters.write_lora(made / "loras" / "style", model, seed=3)
    write_adapters.write_kohya_lora(made / "loras" / "kohya.safetensors", model, seed=4)
    return made


def settings(folder: Path, model: Path) -> dict[str, Any]:
    """An engine with all of them."""
    return {
        "model": str(model),
        "device": "cpu",
        "mask_mode": "latent",
        "controlnets": {"canny": str(folder / "canny"), "depth": str(folder / "depth")},
        "lora_directory": str(folder / "loras"),
    }


@pytest.fixture(scope="module")
def steered(folder: Path, model: Path) -> Iterator[DiffusionEngine]:
    """A started engine with ControlNets and LoRAs."""
    made = DiffusionEngine(DiffusionConfig(**settings(folder, model)))
    asyncio.run(made.start())
    yield made
    asyncio.run(made.stop())


@pytest.fixture(scope="module")
def parts(folder: Path, model: Path) -> dict[str, Any]:
    """The same model and ControlNets, in diffusers' hands."""
    plain = StableDiffusionXLPipeline.from_pretrained(model, add_watermarker=False)
    nets = {kind: ControlNetModel.from_pretrained(folder / kind.value) for kind in (CANNY, DEPTH)}
    return {"components": plain.components, "nets": nets}


def reference(parts: dict[str, Any], task: ImageTask) -> NDArray[np.generic]:
    """What diffusers makes of the first seed of the task."""
    nets = [parts["nets"][one.type] for one in task.controls]
    images = [Image.fromarray(one.image.array) for one in task.controls]
    several = len(nets) > 1
    more: dict[str, Any] = {
        "controlnet_conditioning_scale": [one.strength for one in task.controls],
        "control_guidance_start": [one.start for one in task.controls],
        "control_guidance_end": [one.end for one in task.controls],
    }
    if not several:
        more = {name: value[0] for name, value in more.items()}
    maps: Any = images if several else images[0]
    kind: Any = StableDiffusionXLControlNetPipeline
    if task.init_image is not None:
        kind = StableDiffusionXLControlNetImg2ImgPipeline
        more |= {"image": Image.fromarray(task.init_image.array), "control_image": maps}
        more["strength"] = task.strength
    else:
        more["image"] = maps
    if task.mask is not None:
        kind = StableDiffusionXLControlNetInpaintPipeline
        more["mask_image"] = Image.fromarray(task.mask.array[:, :, 0])
    pipeline = kind(
        **parts["components"], controlnet=nets if several else nets[0], add_watermarker=False
    )
    scheduler, changes = SCHEDULERS[task.scheduler]
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **changes)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        task.prompt,
        negative_prompt=task.negative_prompt or None,
        width=task.width,
        height=task.height,
        num_inference_steps=task.steps,
        guidance_scale=task.guidance,
        generator=torch.Generator("cpu").manual_seed(task.seeds[0]),
        **more,
    )
    return np.asarray(made.images[0])


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
async def test_a_control_gives_the_pipelines_bytes_with_every_scheduler(
    steered: DiffusionEngine, parts: dict[str, Any], scheduler: str, guidance: float
) -> None:
    """With and without guidance, where the map is seen twice and once."""
    task = image_task(scheduler=scheduler, guidance=guidance, steps=4, controls=(control(),))
    (made,) = await generate_images(steered, task)
    assert np.array_equal(made, reference(parts, task))


@pytest.mark.parametrize(
    "task",
    [
        image_task(controls=(control(strength=0.3),)),
        image_task(controls=(control(strength=2.0),), guidance=1.0),
        image_task(controls=(control(start=0.3),), steps=5),
        image_task(controls=(control(end=0.5),), steps=5, scheduler="heun"),
        image_task(controls=(control(start=0.25, end=0.75),), steps=4, scheduler="dpmpp_2m"),
        image_task(controls=(control(), control(DEPTH, strength=0.5))),
        image_task(controls=(control(DEPTH), control(CANNY, strength=0.4, start=0.4)), steps=5),
        image_task(controls=(control(end=0.2), control(DEPTH, start=0.2)), steps=5, guidance=1.0),
        image_task(controls=(control(), control(strength=0.5))),
        image_task(controls=(control(),), width=96, height=72),
        image_task(controls=(control(image=photo(50, 90)),), negative_prompt="a blue house"),
        image_task(controls=(control(),), init_image=photo(), strength=0.6, steps=5),
        image_task(controls=(control(end=0.5),), init_image=photo(), strength=0.8, steps=6),
        image_task(
            controls=(control(), control(DEPTH)),
            init_image=photo(),
            strength=1.0,
            scheduler="euler_a",
        ),
        image_task(controls=(control(),), init_image=photo(), mask=mask(), strength=0.7, steps=5),
        image_task(
            controls=(control(strength=0.5),), init_image=photo(), mask=mask(), strength=1.0
        ),
    ],
    ids=lambda task: f"{len(task.controls)}-{task.width}x{task.height}-{task.scheduler}",
)
async def test_every_kind_of_control_gives_the_pipelines_bytes(
    steered: DiffusionEngine, parts: dict[str, Any], task: ImageTask
) -> None:
    """Strengths, spans, several at once, sizes, variations and inpainting."""
    (made,) = await generate_images(steered, task)
    assert np.array_equal(made, reference(parts, task))


async def test_a_control_changes_the_image_and_one_without_effect_does_not(
    steered: DiffusionEngine,
) -> None:
    """No strength, or a span that no step lies in, is exactly none."""
    (plain,) = await generate_images(steered, image_task())
    (followed,) = await generate_images(steered, image_task(controls=(control(),)))
    assert not np.array_equal(followed, plain)
    for nothing in (control(strength=0.0), control(start=0.99), control(end=0.01)):
        (made,) = await generate_images(steered, image_task(controls=(nothing,)))
        assert np.array_equal(made, plain)


async def test_edges_of_a_photo_are_those_that_could_have_been_given(
    steered: DiffusionEngine,
) -> None:
    """The map is computed of the photo in the image's size."""
    given = control(image=Pixels(array=canny_edges(photo().array)))
    (wanted,) = await generate_images(steered, image_task(controls=(given,)))
    (made,) = await generate_images(steered, image_task(controls=(control(preprocess=True),)))
    assert np.array_equal(made, wanted)


async def test_what_cannot_be_computed_is_told_and_the_next_task_is_done(
    steered: DiffusionEngine,
) -> None:
    """With the setting that would help."""
    with pytest.raises(UnsupportedError, match=r"preprocessors\.depth"):
        await generate_images(steered, image_task(controls=(control(DEPTH, preprocess=True),)))
    assert await generate_images(steered, image_task(controls=(control(),)))


@pytest.mark.parametrize(
    "task",
    [
        image_task(loras=(STYLE,), negative_prompt="a blue house"),
        image_task(loras=(KOHYA, STYLE), guidance=1.0),
        image_task(loras=(STYLE,), controls=(control(),)),
        image_task(loras=(STYLE, KOHYA), controls=(control(), control(DEPTH)), scheduler="euler_a"),
    ],
    ids=lambda task: f"{len(task.loras)}-{len(task.controls)}",
)
async def test_loras_give_the_pipelines_bytes(
    steered: DiffusionEngine,
    parts: dict[str, Any],
    folder: Path,
    model: Path,
    task: ImageTask,
) -> None:
    """With and without a control, which no LoRA changes."""
    own = StableDiffusionXLPipeline.from_pretrained(model, add_watermarker=False)
    own.set_progress_bar_config(disable=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
        own.load_lora_weights(folder / "loras" / "style", adapter_name="one")
        own.load_lora_weights(folder / "loras" / "kohya.safetensors", adapter_name="two")
    names = {STYLE: "one", KOHYA: "two"}
    own.set_adapters([names[lora] for lora in task.loras], [lora.weight for lora in task.loras])
    wanted = (
        reference({**parts, "components": own.components}, task)
        if task.controls
        else of_words(own, task, 7)
    )
    (made,) = await generate_images(steered, task)
    assert np.array_equal(made, wanted)


async def test_tasks_with_other_loras_and_controls_at_once_leave_each_other_alone(
    steered: DiffusionEngine,
) -> None:
    """Each is what it is alone, though they take turns step by step."""
    tasks = [
        image_task(),
        image_task(loras=(STYLE,)),
        image_task(loras=(KOHYA,), controls=(control(),)),
        image_task(controls=(control(), control(DEPTH))),
        image_task(loras=(Lora(name="style", weight=0.0),)),
        image_task(loras=(Lora(name="style", weight=0.2),)),
    ]
    alone = [(await generate_images(steered, task))[0] for task in tasks]
    together = await asyncio.gather(*(generate_images(steered, task) for task in tasks))
    for task, wanted, (made,) in zip(tasks, alone, together, strict=True):
        assert np.array_equal(made, wanted), task
    assert np.array_equal(alone[4], alone[0])
    assert not np.array_equal(alone[5], alone[1])


async def test_images_of_which_only_some_are_steered_share_runs(folder: Path, model: Path) -> None:
    """And differ from what they are alone in rounding only."""
    engine = DiffusionEngine(DiffusionConfig(**settings(folder, model), max_batch=12))
    await engine.start()
    tasks = [
        image_task(),
        image_task(controls=(control(),), seeds=(1, 2)),
        image_task(controls=(control(DEPTH, strength=0.5), control(end=0.5)), guidance=1.0),
        image_task(controls=(control(start=0.5),), seeds=(5,)),
    ]
    alone = [await generate_images(engine, task) for task in tasks]
    together = await asyncio.gather(*(generate_images(engine, task) for task in tasks))
    await engine.stop()
    for wanted, made in zip(alone, together, strict=True):
        for first, second in zip(wanted, made, strict=True):
            assert np.abs(first.astype(int) - second.astype(int)).max() <= 1


async def test_the_engine_says_what_it_has(steered: DiffusionEngine) -> None:
    """Kinds of controls, names of LoRAs, and how many of them."""
    can = steered.capabilities.image
    assert can is not None
    assert can.control_types == (CANNY, DEPTH)
    assert can.max_controls == 3
    assert can.loras == ("kohya", "style")
    assert can.max_loras == 8
    wanted = {ImageFeature.CONTROLNET, ImageFeature.CONTROL_PREPROCESSING, ImageFeature.LORA}
    assert wanted <= can.features


async def test_stable_diffusion_1_follows_controls_too(tmp_path: Path) -> None:
    """Bit by bit as in its own pipeline."""
    own = tiny_sd.write(tmp_path, "sd15")
    net = write_adapters.write_controlnet(tmp_path / "canny", own, seed=5)
    engine = DiffusionEngine(
        DiffusionConfig.model_validate(
            {"model": str(own), "device": "cpu", "controlnets": {"canny": str(net)}}
        )
    )
    await engine.start()
    task = image_task(controls=(control(strength=0.9),))
    (made,) = await generate_images(engine, task)
    await engine.stop()
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        own, controlnet=ControlNetModel.from_pretrained(net), safety_checker=None
    )
    scheduler, changes = SCHEDULERS[task.scheduler]
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **changes)
    pipeline.set_progress_bar_config(disable=True)
    wanted = pipeline(
        task.prompt,
        image=Image.fromarray(photo().array),
        width=64,
        height=64,
        num_inference_steps=task.steps,
        guidance_scale=task.guidance,
        controlnet_conditioning_scale=0.9,
        generator=torch.Generator("cpu").manual_seed(7),
    )
    assert np.array_equal(made, np.asarray(wanted.images[0]))


async def test_a_controlnet_of_another_family_is_told_at_the_start(
    model: Path, tmp_path: Path
) -> None:
    """With what does not fit."""
    net = write_adapters.write_controlnet(
        tmp_path / "canny", tiny_sd.write(tmp_path / "other", "sd15"), seed=6
    )
    engine = DiffusionEngine(
        DiffusionConfig.model_validate(
            {"model": str(model), "device": "cpu", "controlnets": {"canny": str(net)}}
        )
    )
    with pytest.raises(ModelMissingError, match="for another model family: its cross_att"):
        await engine.start()


async def test_a_model_made_to_inpaint_follows_controls_too(
    folder: Path, parts: dict[str, Any], tmp_path: Path
) -> None:
    """ControlNets see the latents alone, and not the channels of the mask."""
    own = tiny_sdxl.write(tmp_path, channels=9)
    engine = DiffusionEngine(DiffusionConfig(**settings(folder, own)))
    await engine.start()
    task = image_task(controls=(control(),), init_image=photo(), mask=mask(), strength=0.8, steps=4)
    (made,) = await generate_images(engine, task)
    await engine.stop()
    pipeline = StableDiffusionXLPipeline.from_pretrained(own, add_watermarker=False)
    wanted = reference({**parts, "components": pipeline.components}, task)
    assert np.array_equal(made, wanted)
