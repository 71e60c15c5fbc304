"""Workflows as data: what is shipped, what people bring, and what a task makes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atelier_engines.capabilities import ImageFeature
from atelier_engines.conformance.tasks import picture
from atelier_engines.errors import InvalidTaskError, UnsupportedError
from atelier_engines.task import Control, ControlType, ImageTask, Lora
from atelier_engines.workflows import (
    ControlFile,
    Files,
    Mode,
    WorkflowError,
    builtin,
    customised,
    features,
    filled,
    from_files,
    from_json,
    mode_of,
    most_loras,
    schedulers,
)
from atelier_engines.workflows.graph import graph_from_json, graph_to_json, links, merged
from atelier_engines.workflows.workflow import builtin_names

Json = Any
"""What JSON decodes to."""

TASK = ImageTask(prompt="a lighthouse", width=640, height=512, seeds=(7,), steps=4, guidance=2.5)
PICTURE = picture(16, 16, 1)
GRAPH: dict[str, Any] = {
    "1": {"class_type": "Text", "inputs": {"text": ""}, "_meta": {"title": "Words"}},
    "2": {"class_type": "Size", "inputs": {"width": 1, "height": 1}},
    "3": {"class_type": "easy loraStack", "inputs": {"num_loras": 0, "mode": "advanced"}},
    "4": {"class_type": "Save", "inputs": {"images": ["1", 0], "of": ["3", 0]}},
}
BINDINGS: dict[str, Any] = {
    "slots": {
        "prompt": [{"title": "Words", "input": "text"}],
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
    mask = PICTURE if "inpaint" in name else None
    return replace(task, init_image=PICTURE, mask=mask, strength=0.3)


@pytest.mark.parametrize("family", ["sdxl", "flux"])
@pytest.mark.parametrize("mode", Mode)
def test_every_family_has_every_mode_and_all_of_a_task_arrives(family: str, mode: Mode) -> None:
    """Numbers, words, pictures, two LoRAs and two controls, and a graph whose links hold."""
    name = f"{family}_{mode.value}"
    control = Control(type=ControlType.DEPTH, image=PICTURE, strength=0.5)
    loras = (Lora(name="a", weight=0.85), Lora(name="b"))
    task = task_for(name, loras=loras, controls=(control, control))
    assert mode_of(task) is mode
    files = Files(
        model="weights.safetensors",
        init_image="start.png",
        mask="mask.png",
        controls=(ControlFile(image="1.png", model="net"), ControlFile(image="2.png", model="net")),
    )
    written = filled(builtin(name), task, seed=99, files=files, prefix="mine")
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
    used = {source for _, _, (source, _) in links(graph)} | {"save"}
    assert set(graph) == used, "every node has its effect"


def test_all_shipped_workflows_are_listed() -> None:
    """Two families in three modes."""
    assert len(builtin_names()) == 6
    with pytest.raises(WorkflowError, match="sdxl_txt2img"):
        builtin("sd15_txt2img")


def test_features_are_what_there_are_places_for() -> None:
    """FLUX takes no negative prompt; only the inpainting workflow repaints."""
    assert ImageFeature.NEGATIVE_PROMPT in features(builtin("sdxl_txt2img"))
    assert ImageFeature.NEGATIVE_PROMPT not in features(builtin("flux_txt2img"))
    assert ImageFeature.IMAGE_TO_IMAGE in features(builtin("flux_img2img"))
    assert ImageFeature.INPAINTING in features(builtin("flux_inpaint"))
    assert ImageFeature.INPAINTING not in features(builtin("flux_img2img"))


def test_ten_loras_are_chained_in_order_and_no_more_are_taken() -> None:
    """Each hands its model and its text encoder to the next."""
    workflow = builtin("sdxl_txt2img")
    loras = tuple(Lora(name=f"{n}", weight=n / 10) for n in range(1, 11))
    graph = filled(workflow, replace(TASK, loras=loras), seed=1)
    nodes: Json = [graph[f"lora_{n}_load"] for n in range(1, 11)]
    assert [node["inputs"]["lora_name"] for node in nodes] == [lora.name for lora in loras]
    assert [node["inputs"]["strength_clip"] for node in nodes] == [lora.weight for lora in loras]
    before = ["checkpoint", *(f"lora_{n}_load" for n in range(1, 10))]
    assert [node["inputs"]["model"] for node in nodes] == [[name, 0] for name in before]
    assert [node["inputs"]["clip"] for node in nodes] == [[name, 1] for name in before]
    consumers: Json = graph
    assert consumers["sampler"]["inputs"]["model"] == ["lora_10_load", 0]
    assert consumers["negative"]["inputs"]["clip"] == ["lora_10_load", 1]
    assert most_loras(workflow) == 10
    with pytest.raises(InvalidTaskError, match="at most 10, not 11"):
        filled(workflow, replace(TASK, loras=(*loras, Lora(name="x"))), seed=1)


def test_controls_are_chained_between_the_words_and_the_sampler() -> None:
    """Both conditionings go through each of them; LoRAs do not disturb them."""
    controls = tuple(
        Control(type=ControlType.CANNY, image=PICTURE, strength=s, start=0.1, end=0.8)
        for s in (0.5, 1.5)
    )
    files = Files(controls=(ControlFile(image="a", model="m"), ControlFile(image="b", model="n")))
    graph: Json = filled(
        builtin("sdxl_txt2img"), replace(TASK, controls=controls), seed=1, files=files
    )
    second = graph["control_2_apply"]["inputs"]
    assert second["positive"] == ["control_1_apply", 0]
    assert second["negative"] == ["control_1_apply", 1]
    assert (second["strength"], second["start_percent"], second["end_percent"]) == (1.5, 0.1, 0.8)
    assert graph["control_2_size"]["inputs"]["image"] == ["control_2_picture", 0]
    assert graph["control_1_apply"]["inputs"]["vae"] == ["checkpoint", 2]
    assert graph["sampler"]["inputs"]["negative"] == ["control_2_apply", 1]


def test_a_control_without_its_file_is_refused() -> None:
    """The caller forgot to upload it."""
    task = replace(TASK, controls=(Control(type=ControlType.CANNY, image=PICTURE),))
    with pytest.raises(InvalidTaskError, match="needs its picture"):
        filled(builtin("sdxl_txt2img"), task, seed=1)


@pytest.mark.parametrize("name", builtin_names())
def test_samplers_go_by_the_names_that_callers_know(name: str) -> None:
    """Each has a sampler and a schedule; unknown ones name those that are there."""
    workflow = builtin(name)
    pairs = set()
    for scheduler in schedulers(workflow):
        graph: Json = filled(workflow, task_for(name, scheduler=scheduler), seed=1)
        inputs = graph["sampler"]["inputs"]
        pairs.add((inputs["sampler_name"], inputs["scheduler"]))
    assert len(pairs) == len(schedulers(workflow))
    with pytest.raises(UnsupportedError, match="euler"):
        filled(workflow, task_for(name, scheduler="plms"), seed=1)


@pytest.mark.parametrize(
    ("change", "slot"),
    [
        ({"steps": 3}, "steps"),
        ({"guidance": 2.0}, "guidance"),
        ({"negative_prompt": "fog"}, "negative_prompt"),
        ({"init_image": PICTURE}, "init_image"),
    ],
)
def test_what_the_workflow_has_no_slot_for_is_never_dropped(
    change: dict[str, Any], slot: str
) -> None:
    """It is refused by name."""
    bare = replace(TASK, steps=None, guidance=None)
    with pytest.raises(UnsupportedError, match=f"no slot for {slot}"):
        filled(from_json("own", GRAPH, BINDINGS), replace(bare, **change), seed=1)


def test_a_stack_node_takes_loras_in_numbered_places_and_is_emptied_behind_them() -> None:
    """As Easy LoRA Stack does; titles and classes name nodes."""
    workflow = from_json("own", GRAPH, BINDINGS)
    loras = (Lora(name="ink", weight=0.7), Lora(name="hero", weight=0.85))
    task = replace(TASK, steps=None, guidance=None, loras=loras)
    graph: Json = filled(workflow, task, seed=1)
    stack = graph["3"]["inputs"]
    assert (stack["num_loras"], stack["mode"]) == (2, "advanced")
    assert (stack["lora_1_name"], stack["lora_2_model_strength"]) == ("ink", 0.85)
    assert [stack[f"lora_{n}_name"] for n in range(3, 11)] == ["None"] * 8
    assert graph["1"]["inputs"]["text"] == "a lighthouse"
    assert workflow.graph["3"].inputs == {"num_loras": 0, "mode": "advanced"}, "the template stays"


def test_a_workflow_without_places_for_loras_refuses_them() -> None:
    """Rather than drop them."""
    bindings = {key: value for key, value in BINDINGS.items() if key != "loras"}
    task = replace(TASK, steps=None, guidance=None, loras=(Lora(name="a"),))
    with pytest.raises(UnsupportedError, match="no place for LoRAs"):
        filled(from_json("own", GRAPH, bindings), task, seed=1)


def test_a_workflow_comes_from_two_files(tmp_path: Path) -> None:
    """As ComfyUI exports it, and the bindings beside it."""
    (tmp_path / "own.json").write_text(json.dumps(GRAPH))
    (tmp_path / "own.bindings.json").write_text(json.dumps(BINDINGS))
    workflow = from_files(tmp_path / "own.json", tmp_path / "own.bindings.json")
    assert (workflow.name, workflow.outputs) == ("own", ("4",))
    with pytest.raises(WorkflowError, match=r"absent\.json"):
        from_files(tmp_path / "absent.json", tmp_path / "own.bindings.json")


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        ({"nodes": [], "links": []}, "Export"),
        ({}, "no nodes"),
        ([], "dict"),
        ({"1": {"inputs": {}}}, "class_type"),
        (merged(GRAPH, {"4": {"inputs": {"images": ["77", 0]}}}), "'77'"),
        (GRAPH | {"5": GRAPH["2"]}, "names the nodes 2, 5"),
    ],
)
def test_a_graph_that_makes_no_sense_is_refused(graph: Json, says: str) -> None:
    """With what to correct."""
    with pytest.raises(WorkflowError, match=says):
        from_json("own", graph, BINDINGS)


@pytest.mark.parametrize(
    ("change", "says"),
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
def test_bindings_that_do_not_fit_are_refused(change: Json, says: str) -> None:
    """And where they stand."""
    with pytest.raises(WorkflowError, match=says):
        from_json("own", GRAPH, merged(BINDINGS, change))


def test_changes_are_merged_recursively_and_null_removes() -> None:
    """What is not named stays; a title names a node as well as an id."""
    workflow = customised(
        builtin("sdxl_txt2img"),
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
    assert builtin("sdxl_txt2img").graph["sampler"].inputs["cfg"] == 6.0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"Smapler": {"inputs": {"cfg": 1}}}, "Smapler"),
        ({"latent": None}, "latent"),
        ({"sampler": {"inputs": {"cfg": None}}}, "cfg"),
        ({"sampler": 3}, "sampler"),
    ],
)
def test_a_change_that_breaks_the_workflow_is_refused(changes: Json, says: str) -> None:
    """Unknown nodes, cut links and slots without their input."""
    with pytest.raises(WorkflowError, match=says):
        customised(builtin("sdxl_txt2img"), changes)
