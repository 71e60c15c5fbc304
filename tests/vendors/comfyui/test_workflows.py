"""Custom workflows on a comfyui engine: passes, sizes, several images, and faults that are found at the start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atelier_engines.conformance.remote_service import run_engine
from atelier_engines.conformance.tasks import random_image
from atelier_engines.errors import EngineUnavailableError, InvalidTaskError, ModelMissingError
from atelier_engines.event import Output
from atelier_engines.task import ImageTask, Lora
from tests.vendors.calls import outputs, run_task, steps
from tests.vendors.comfyui.state import StandIn
from tests.vendors.comfyui.workflow_files import (
    BINDINGS,
    BOTH_PASSES,
    SIMPLE,
    TWO_PASSES,
    change,
    write,
)

TASK = ImageTask(prompt="a lighthouse", width=64, height=64, seeds=(7,), steps=4)


async def test_progress_counts_the_steps_of_all_passes(server: StandIn, tmp_path: Path) -> None:
    """The first pass is half of the work, not all of it."""
    workflows = write(tmp_path, TWO_PASSES, BOTH_PASSES)
    async with run_engine(server, workflows=workflows) as engine:
        events = await run_task(engine, replace(TASK, seeds=(1, 2)))
    assert steps(events) == [(n, 16) for n in range(1, 17)]


async def test_a_pass_whose_steps_the_task_does_not_set_counts_its_own(
    server: StandIn, tmp_path: Path
) -> None:
    """Four of the first pass, which the workflow says, and six of the second, which the task says."""
    workflows = write(tmp_path, TWO_PASSES, BINDINGS)
    async with run_engine(server, workflows=workflows) as engine:
        events = await run_task(engine, replace(TASK, steps=6))
    assert steps(events) == [(n, 10) for n in range(1, 11)]


async def test_the_image_has_the_size_that_the_workflow_makes(
    server: StandIn, tmp_path: Path
) -> None:
    """And says why it is another than that of the task."""
    workflows = write(tmp_path, TWO_PASSES, BOTH_PASSES)
    async with run_engine(server, workflows=workflows) as engine:
        events = await run_task(engine, TASK)
    (image,) = outputs(events)
    assert (image.width, image.height) == (128, 128)
    (output,) = [event for event in events if isinstance(event, Output)]
    assert output.size_reason == "the workflow makes 128 x 128 pixels of 64 x 64"


async def test_every_image_of_a_job_is_returned(server: StandIn, tmp_path: Path) -> None:
    """Under the seed of its job; temporary ones are no results."""
    batch = change(TWO_PASSES, "5", batch_size=3)
    async with run_engine(server, workflows=write(tmp_path, batch, BOTH_PASSES)) as engine:
        events = await run_task(engine, replace(TASK, seeds=(1, 2)))
    made = [event for event in events if isinstance(event, Output)]
    assert [output.seed for output in made] == [1, 1, 1, 2, 2, 2]
    assert len({image.data for image in outputs(events)}) == 6


async def test_the_images_of_all_output_nodes_are_returned(server: StandIn, tmp_path: Path) -> None:
    """In the order of the bindings."""
    graph = SIMPLE | {
        "18": {
            "class_type": "SaveImage",
            "inputs": {"images": ["8", 0], "filename_prefix": "again"},
        }
    }
    bindings = BINDINGS | {"outputs": [{"id": "18"}, {"id": "9"}]}
    async with run_engine(server, workflows=write(tmp_path, graph, bindings)) as engine:
        events = await run_task(engine, TASK)
    assert len(outputs(events)) == 2


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "list": (
        change(SIMPLE, "16", sampler_name="nosuch"),
        r"node 16 \(KSampler\): sampler_name must be one of euler, .*, not 'nosuch'",
    ),
    "new list": (
        change(SIMPLE, "16", scheduler="nosuch"),
        r"scheduler must be one of normal, .*, not 'nosuch'",
    ),
    "range": (change(SIMPLE, "16", cfg=500.0), r"cfg must be at most 100\.0, not 500"),
    "below": (change(SIMPLE, "5", batch_size=0), "batch_size must be at least 1, not 0"),
    "text": (change(SIMPLE, "16", cfg="much"), "cfg must be a number, not 'much'"),
    "missing": (change(SIMPLE, "16", positive=None), "its input positive is missing"),
    "output": (change(SIMPLE, "8", vae=["4", 3]), "vae is linked to output 3 of node 4"),
    "type": (
        change(SIMPLE, "8", vae=["4", 1]),
        r"vae takes VAE, not CLIP, which node 4 \(CheckpointLoaderSimple\) gives",
    ),
    "link": (change(SIMPLE, "8", vae=["4"]), "vae must be a value or a link"),
    "no link": (change(SIMPLE, "8", vae="ae"), "vae must be linked to a node that gives VAE"),
    "circle": (change(SIMPLE, "16", latent_image=["16", 0]), "depend on each other in a circle"),
    "class": (SIMPLE | {"30": {"class_type": "NoSuch", "inputs": {}}}, "lacks the nodes NoSuch"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_faulty_workflow_is_found_at_the_start(
    server: StandIn, tmp_path: Path, fault: str
) -> None:
    """The error names the node, the input, and what would be right."""
    graph, message = FAULTS[fault]
    with pytest.raises(EngineUnavailableError, match=message):
        await server.engine(workflows=write(tmp_path, graph, BINDINGS)).start()
    assert server.submitted == []


@pytest.mark.parametrize(
    ("slots", "outputs_", "message"),
    [
        ({"steps": [{"id": "6", "input": "text"}]}, None, "text takes STRING, which slots.steps"),
        ({"seed": [{"id": "5", "input": "odd"}]}, None, "has no input odd, so slots.seed"),
        ({}, [{"id": "8"}], r"node 8 \(VAEDecode\): it saves nothing"),
    ],
)
async def test_faulty_bindings_are_found_at_the_start(
    server: StandIn,
    tmp_path: Path,
    slots: dict[str, Any],
    outputs_: list[dict[str, str]] | None,
    message: str,
) -> None:
    """An input that the node does not have would be ignored in silence."""
    bindings = BINDINGS | {
        "slots": BINDINGS["slots"] | slots,
        "outputs": outputs_ or BINDINGS["outputs"],
    }
    graph = change(SIMPLE, "5", odd=1)
    with pytest.raises(EngineUnavailableError, match=message):
        await server.engine(workflows=write(tmp_path, graph, bindings)).start()


async def test_a_faulty_chain_of_loras_is_found_at_the_start(
    server: StandIn, tmp_path: Path
) -> None:
    """Its links are checked with one LoRA in place."""
    chain = {
        "nodes": {"load": {"class_type": "LoraLoaderModelOnly"}},
        "splices": [
            {
                "after": {"id": "4"},
                "output": 1,
                "chain_input": ["load", "model"],
                "chain_output": ["load", 0],
            }
        ],
        "slots": {"name": [["load", "lora_name"]], "weight": [["load", "strength_model"]]},
    }
    workflows = write(tmp_path, SIMPLE, BINDINGS | {"loras": chain})
    with pytest.raises(EngineUnavailableError, match=r"model takes MODEL, not CLIP"):
        await server.engine(workflows=workflows).start()


async def test_weights_that_a_workflow_names_and_no_server_has_are_missing(
    server: StandIn, tmp_path: Path
) -> None:
    """The operator is to install them."""
    graph = SIMPLE | {
        "30": {"class_type": "VAELoader", "inputs": {"vae_name": "absent.safetensors"}}
    }
    graph = change(graph, "8", vae=["30", 0])
    with pytest.raises(ModelMissingError, match=r"vae_name must be one of ae\.safetensors"):
        await server.engine(workflows=write(tmp_path, graph, BINDINGS)).start()


async def test_nodes_that_no_output_depends_on_are_not_checked(
    server: StandIn, tmp_path: Path
) -> None:
    """As the server does not check them either."""
    graph = SIMPLE | {"30": {"class_type": "VAELoader", "inputs": {"vae_name": "no"}}}
    async with run_engine(server, workflows=write(tmp_path, graph, BINDINGS)) as engine:
        assert outputs(await run_task(engine, TASK))


async def test_without_the_check_the_server_decides_and_the_workflow_is_blamed(
    server: StandIn, tmp_path: Path
) -> None:
    """The caller can change nothing about it."""
    workflows = write(tmp_path, change(SIMPLE, "16", cfg=500.0), BINDINGS)
    async with run_engine(server, workflows=workflows, check_workflows=False) as engine:
        with pytest.raises(EngineUnavailableError, match="not the task") as refused:
            await run_task(engine, TASK)
    assert refused.value.engine_at_fault


async def test_what_the_task_fills_in_is_the_callers_fault(server: StandIn, tmp_path: Path) -> None:
    """The error names the task's field."""
    workflows = write(tmp_path, SIMPLE, BINDINGS)
    async with run_engine(server, workflows=workflows) as engine:
        with pytest.raises(InvalidTaskError, match="smaller than min") as refused:
            await run_task(engine, replace(TASK, width=8))
    assert refused.value.field == "width"


async def test_a_lora_that_was_removed_is_missing(server: StandIn) -> None:
    """The server listed it at the start."""
    async with run_engine(server) as engine:
        with pytest.raises(ModelMissingError, match=r"lora_name: 'gone\.safetensors'"):
            await run_task(engine, replace(TASK, loras=(Lora(name="gone.safetensors"),)))


IMG2IMG = SIMPLE | {
    "30": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
    "31": {
        "class_type": "ImageScale",
        "inputs": {
            "image": ["30", 0],
            "upscale_method": "lanczos",
            "width": 64,
            "height": 64,
            "crop": "center",
        },
    },
    "5": {"class_type": "VAEEncode", "inputs": {"pixels": ["31", 0], "vae": ["4", 2]}},
}
"""From an image, with weights of its own; its strength is fixed."""
_IMG2IMG_SLOTS = {
    "init_image": [{"id": "30", "input": "image"}],
    "width": [{"id": "31", "input": "width"}],
    "height": [{"id": "31", "input": "height"}],
}


def write_fixed(folder: Path) -> dict[str, Any]:
    """A workflow that takes the task's model, and one for images that loads its own."""
    slots = {**BINDINGS["slots"], **_IMG2IMG_SLOTS}
    del slots["model"]
    return write(folder, SIMPLE, BINDINGS) | write(
        folder, IMG2IMG, BINDINGS | {"slots": slots}, "img2img"
    )


async def test_a_mode_with_weights_of_its_own_works_and_no_model_is_offered(
    server: StandIn, tmp_path: Path
) -> None:
    """A model that only the other mode would use is not claimed, nor a strength that none takes."""
    async with run_engine(server, workflows=write_fixed(tmp_path)) as engine:
        image = engine.capabilities.image
        assert image is not None
        assert (image.models, image.ignores_strength) == ((), True)
        for init in (None, random_image(64, 64, seed=1)):
            made = outputs(await run_task(engine, replace(TASK, init_image=init)))
            assert len(made) == 1


async def test_models_that_a_workflow_would_not_use_fail_the_start(
    server: StandIn, tmp_path: Path
) -> None:
    """The operator has configured them."""
    engine = server.engine(workflows=write_fixed(tmp_path), models=["tiny15.safetensors"])
    with pytest.raises(EngineUnavailableError, match="img2img has no slot for model"):
        await engine.start()


async def test_a_custom_mode_whose_nodes_are_missing_fails_the_start(
    server: StandIn, tmp_path: Path
) -> None:
    """The operator has configured it, so it is not left out in silence."""
    slots = BINDINGS["slots"] | {"init_image": [{"id": "30", "input": "image"}]}
    graph = SIMPLE | {"30": {"class_type": "LoadOdd", "inputs": {"image": ""}}}
    workflows = write(tmp_path, SIMPLE, BINDINGS) | write(
        tmp_path, graph, BINDINGS | {"slots": slots}, "img2img"
    )
    with pytest.raises(EngineUnavailableError, match="lacks the nodes LoadOdd"):
        await server.engine(workflows=workflows).start()
