"""Workflows: built-in ones, workflows from files, and graphs filled with a task."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atelier_engines.capabilities import ImageFeature
from atelier_engines.conformance.tasks import random_image
from atelier_engines.errors import InvalidTaskError, UnsupportedError
from atelier_engines.task import Control, ControlType, ImageTask, Lora
from atelier_engines.workflows import (
    ControlFile,
    Mode,
    TaskFiles,
    WorkflowError,
    apply_overrides,
    fill,
    list_schedulers,
    load_builtin,
    load_files,
    max_loras,
    parse_workflow,
    required_mode,
    supported_features,
)
from atelier_engines.workflows.graph import graph_from_json, graph_to_json, iter_links, merge_patch
from atelier_engines.workflows.workflow import list_builtins

Json = Any
"""What JSON decodes to."""

TASK = ImageTask(prompt="a lighthouse", width=640, height=512, seeds=(7,), steps=4, guidance=2.5)
IMAGE = random_image(16, 16, 1)
GRAPH: dict[str, Any] = {
    "1": {"class_type": "Text", "inputs": {"text": ""}, "_meta": {"title": "Prompt"}},
    "2": {"class_type": "Size", "inputs": {"width": 1, "height": 1}},
    "3": {"class_type": "easy loraStack", "inputs": {"num_loras": 0, "mode": "advanced"}},
    "4": {"class_type": "Save", "inputs": {"images": ["1", 0], "of": ["3", 0]}},
}
BINDINGS: dict[str, Any] = {
    "slots": {
        "prompt": [{"title": "Prompt", "input": "text"}],
        "width": [{"class_type": "Size", "input": "width"}],
        "height": [{"id": "2", "input": "height"}],
    },
    "loras": {
        "node": {"class_type": "easy loraStack"},
        "name": "lora_{n}_name",
        "weights": ["lora_{n}_strength", "lora_{n}_model_strength"],
        "count": "num_loras",
    },
    "outputs": [{"id": "4"}],
}


def task_for(name: str, **changes: Json) -> ImageTask:
    """One that the mode of that workflow is for."""
    task = replace(TASK, **changes)
    if "txt2img" in name:
        return task
    mask = IMAGE if "inpaint" in name else None
    return replace(task, init_image=IMAGE, mask=mask, strength=0.3)


@pytest.mark.parametrize("family", ["sdxl", "flux"])
@pytest.mark.parametrize("mode", Mode)
def test_every_family_has_every_mode_and_all_of_a_task_arrives(family: str, mode: Mode) -> None:
    """Numbers, prompts, images, two LoRAs and two controls; and every link of the graph is valid."""
    name = f"{family}_{mode.value}"
    control = Control(type=ControlType.DEPTH, image=IMAGE, strength=0.5)
    loras = (Lora(name="a", weight=0.85), Lora(name="b"))
    task = task_for(name, loras=loras, controls=(control, control))
    assert required_mode(task) is mode
    files = TaskFiles(
        model="weights.safetensors",
        init_image="start.png",
        mask="mask.png",
        controls=(ControlFile(image="1.png", model="net"), ControlFile(image="2.png", model="net")),
    )
    written = fill(load_builtin(name), task, seed=99, files=files, prefix="mine")
    said = json.dumps(written)
    wanted = [
        "a lighthouse",
        "weights.safetensors",
        "mine",
        "1.png",
        "2.png",
        "99",
        "640",
        "512",
        "2.5",
    ]
    wanted += ["start.png"] if mode is not Mode.TXT2IMG else []
    wanted += ["mask.png"] if mode is Mode.INPAINT else []
    assert all(value in said for value in wanted)
    graph = graph_from_json(written)
    used = {source for _, _, (source, _) in iter_links(graph)} | {"save"}
    assert set(graph) == used, "every node is used"


def test_all_builtin_workflows_are_listed() -> None:
    """Two families with three modes each."""
    assert len(list_builtins()) == 7
    with pytest.raises(WorkflowError, match="sdxl_txt2img"):
        load_builtin("sd15_txt2img")


def test_features_are_those_that_the_workflow_has_slots_for() -> None:
    """FLUX takes no negative prompt; only the inpainting workflow inpaints."""
    assert ImageFeature.NEGATIVE_PROMPT in supported_features(load_builtin("sdxl_txt2img"))
    assert ImageFeature.NEGATIVE_PROMPT not in supported_features(load_builtin("flux_txt2img"))
    assert ImageFeature.IMAGE_TO_IMAGE in supported_features(load_builtin("flux_img2img"))
    assert ImageFeature.INPAINTING in supported_features(load_builtin("flux_inpaint"))
    assert ImageFeature.INPAINTING not in supported_features(load_builtin("flux_img2img"))


def test_ten_loras_are_chained_in_order_and_no_more_are_taken() -> None:
    """Each passes its model and its text encoder to the next."""
    workflow = load_builtin("sdxl_txt2img")
    loras = tuple(Lora(name=f"{n}", weight=n / 10) for n in range(1, 11))
    graph = fill(workflow, replace(TASK, loras=loras), seed=1)
    nodes: Json = [graph[f"lora_{n}_load"] for n in range(1, 11)]
    assert [node["inputs"]["lora_name"] for node in nodes] == [lora.name for lora in loras]
    assert [node["inputs"]["strength_clip"] for node in nodes] == [lora.weight for lora in loras]
    before = ["checkpoint", *(f"lora_{n}_load" for n in range(1, 10))]
    assert [node["inputs"]["model"] for node in nodes] == [[name, 0] for name in before]
    assert [node["inputs"]["clip"] for node in nodes] == [[name, 1] for name in before]
    consumers: Json = graph
    assert consumers["sampler"]["inputs"]["model"] == ["lora_10_load", 0]
    assert consumers["negative"]["inputs"]["clip"] == ["lora_10_load", 1]
    assert max_loras(workflow) == 10
    with pytest.raises(InvalidTaskError, match="at most 10, not 11"):
        fill(workflow, replace(TASK, loras=(*loras, Lora(name="x"))), seed=1)


def test_controls_are_chained_between_the_prompt_and_the_sampler() -> None:
    """Both conditionings go through each of them, with and without LoRAs."""
    controls = tuple(
        Control(type=ControlType.CANNY, image=IMAGE, strength=s, start=0.1, end=0.8)
        for s in (0.5, 1.5)
    )
    files = TaskFiles(
        controls=(ControlFile(image="a", model="m"), ControlFile(image="b", model="n"))
    )
    graph: Json = fill(
        load_builtin("sdxl_txt2img"), replace(TASK, controls=controls), seed=1, files=files
    )
    second = graph["control_2_apply"]["inputs"]
    assert second["positive"] == ["control_1_apply", 0]
    assert second["negative"] == ["control_1_apply", 1]
    assert (second["strength"], second["start_percent"], second["end_percent"]) == (1.5, 0.1, 0.8)
    assert graph["control_2_size"]["inputs"]["image"] == ["control_2_load", 0]
    assert graph["control_1_apply"]["inputs"]["vae"] == ["checkpoint", 2]
    assert graph["sampler"]["inputs"]["negative"] == ["control_2_apply", 1]


def test_a_control_without_its_file_is_refused() -> None:
    """The caller forgot to upload it."""
    task = replace(TASK, controls=(Control(type=ControlType.CANNY, image=IMAGE),))
    with pytest.raises(InvalidTaskError, match="needs an image file"):
        fill(load_builtin("sdxl_txt2img"), task, seed=1)


@pytest.mark.parametrize("name", list_builtins())
def test_samplers_are_selected_by_the_scheduler_names_of_the_api(name: str) -> None:
    """Each has a sampler and a schedule; the error of an unknown one lists those that exist."""
    workflow = load_builtin(name)
    pairs = set()
    for scheduler in list_schedulers(workflow):
        graph: Json = fill(workflow, task_for(name, scheduler=scheduler), seed=1)
        inputs = graph["sampler"]["inputs"]
        pairs.add((inputs["sampler_name"], inputs["scheduler"]))
    assert len(pairs) == len(list_schedulers(workflow))
    with pytest.raises(UnsupportedError, match="euler"):
        fill(workflow, task_for(name, scheduler="plms"), seed=1)


@pytest.mark.parametrize(
    ("change", "slot"),
    [
        ({"steps": 3}, "steps"),
        ({"guidance": 2.0}, "guidance"),
        ({"negative_prompt": "fog"}, "negative_prompt"),
        ({"init_image": IMAGE}, "init_image"),
    ],
)
def test_what_the_workflow_has_no_slot_for_is_never_dropped(
    change: dict[str, Any], slot: str
) -> None:
    """The error names the slot."""
    bare = replace(TASK, steps=None, guidance=None)
    with pytest.raises(UnsupportedError, match=f"no slot for {slot}"):
        fill(parse_workflow("own", GRAPH, BINDINGS), replace(bare, **change), seed=1)


def test_a_lora_stack_node_takes_loras_in_numbered_inputs_and_the_rest_is_cleared() -> None:
    """As Easy LoRA Stack does; nodes are found by title and by class."""
    workflow = parse_workflow("own", GRAPH, BINDINGS)
    loras = (Lora(name="ink", weight=0.7), Lora(name="hero", weight=0.85))
    task = replace(TASK, steps=None, guidance=None, loras=loras)
    graph: Json = fill(workflow, task, seed=1)
    stack = graph["3"]["inputs"]
    assert (stack["num_loras"], stack["mode"]) == (2, "advanced")
    assert (stack["lora_1_name"], stack["lora_2_model_strength"]) == ("ink", 0.85)
    assert [stack[f"lora_{n}_name"] for n in range(3, 11)] == ["None"] * 8
    assert graph["1"]["inputs"]["text"] == "a lighthouse"
    assert workflow.graph["3"].inputs == {"num_loras": 0, "mode": "advanced"}, (
        "the template is unchanged"
    )


def test_a_workflow_without_lora_bindings_refuses_loras() -> None:
    """They are never dropped silently."""
    bindings = {key: value for key, value in BINDINGS.items() if key != "loras"}
    task = replace(TASK, steps=None, guidance=None, loras=(Lora(name="a"),))
    with pytest.raises(UnsupportedError, match="does not support LoRAs"):
        fill(parse_workflow("own", GRAPH, bindings), task, seed=1)


def test_a_workflow_comes_from_two_files(tmp_path: Path) -> None:
    """The graph as ComfyUI exports it, and the bindings."""
    (tmp_path / "own.json").write_text(json.dumps(GRAPH))
    (tmp_path / "own.bindings.json").write_text(json.dumps(BINDINGS))
    workflow = load_files(tmp_path / "own.json", tmp_path / "own.bindings.json")
    assert (workflow.name, workflow.outputs) == ("own", ("4",))
    with pytest.raises(WorkflowError, match=r"absent\.json"):
        load_files(tmp_path / "absent.json", tmp_path / "own.bindings.json")


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        ({"nodes": [], "links": []}, "Export"),
        ({}, "no nodes"),
        ([], "dict"),
        ({"1": {"inputs": {}}}, "class_type"),
        (merge_patch(GRAPH, {"4": {"inputs": {"images": ["77", 0]}}}), "'77'"),
        (GRAPH | {"5": GRAPH["2"]}, "names the nodes 2, 5"),
    ],
)
def test_an_invalid_graph_is_refused(graph: Json, message: str) -> None:
    """The error message what to correct."""
    with pytest.raises(WorkflowError, match=message):
        parse_workflow("own", graph, BINDINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"slots": {"prompt": [{"id": "99", "input": "text"}]}},
            r"slots\.prompt.*'99'.*1 \(Text\)",
        ),
        ({"slots": {"prompt": [{"id": "1", "input": "txt"}]}}, "'txt'; Text has text"),
        ({"slots": {"prompt": [{"input": "text"}]}}, "one of id, title and class_type"),
        ({"slots": {"prompt": None}}, r"slots\.prompt is missing"),
        ({"slots": {"prmpt": []}}, "prmpt"),
        ({"slots": {"mask": [{"id": "1", "input": "text"}]}}, "init_image"),
        ({"samplers": {"euler": ["euler", "normal"]}}, "samplers needs"),
        ({"outputs": [{"title": "Result"}]}, "outputs.*Result"),
        ({"loras": {"node": {"id": "88", "class_type": None}}}, "loras.*'88'"),
    ],
)
def test_bindings_that_do_not_fit_are_refused(change: Json, message: str) -> None:
    """The error names the key."""
    with pytest.raises(WorkflowError, match=message):
        parse_workflow("own", GRAPH, merge_patch(BINDINGS, change))


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        ({"loras": {"most": 3}}, r"loras.*most\W+is now max_count"),
        (
            {"controls": {"nodes": {}, "ports": [], "slots": {}}},
            r"controls.*ports\W+is now splices",
        ),
    ],
)
def test_bindings_with_keys_of_earlier_versions_name_the_new_ones(
    bindings: Json, message: str
) -> None:
    """Both kinds of LoRA bindings, and controls."""
    with pytest.raises(WorkflowError, match=message):
        parse_workflow("own", GRAPH, merge_patch(BINDINGS, bindings))


def test_overrides_are_merged_recursively_and_null_removes() -> None:
    """What is not named is unchanged; a node is named by its title or its id."""
    workflow = apply_overrides(
        load_builtin("sdxl_txt2img"),
        {
            "Sampler": {"inputs": {"cfg": 4.5, "steps": 30}},
            "decode": {"class_type": "VAEDecodeTiled", "inputs": {"tile_size": 512}},
            "checkpoint": {"_meta": {"title": None}},
            "note": {"class_type": "Note", "inputs": {}},
        },
    )
    raw: Json = graph_to_json(workflow.graph)
    assert (raw["sampler"]["inputs"]["cfg"], raw["sampler"]["inputs"]["denoise"]) == (4.5, 1.0)
    assert raw["decode"]["class_type"] == "VAEDecodeTiled"
    assert raw["decode"]["inputs"]["samples"] == ["sampler", 0]
    assert raw["checkpoint"]["_meta"]["title"] == ""
    assert "note" in raw
    assert load_builtin("sdxl_txt2img").graph["sampler"].inputs["cfg"] == 6.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Smapler": {"inputs": {"cfg": 1}}}, "Smapler"),
        ({"latent": None}, "latent"),
        ({"sampler": {"inputs": {"cfg": None}}}, "cfg"),
        ({"sampler": 3}, "sampler"),
    ],
)
def test_an_override_that_breaks_the_workflow_is_refused(changes: Json, message: str) -> None:
    """Unknown nodes, broken links and slots without their input."""
    with pytest.raises(WorkflowError, match=message):
        apply_overrides(load_builtin("sdxl_txt2img"), changes)
