"""A task may change inputs of a workflow, and only those that the operator allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from atelier_engines.errors import InvalidTaskError
from atelier_engines.task import ImageTask
from atelier_engines.vendors.comfy_config import WorkflowConfig, load_workflows
from atelier_engines.workflows import (
    Workflow,
    WorkflowError,
    apply_request_overrides,
    build_overrides_schema,
    load_builtin,
)
from atelier_server.admission.options import find_option_violations

TASK = ImageTask(prompt="a lighthouse", width=640, height=512, seeds=(7,))
ALLOWED = {"Size": ["batch_size"], "save": [], "Diffusion model": ["weight_dtype"]}
FLUX = "flux_txt2img"


def changed(overrides: Mapping[str, Any], name: str = FLUX) -> Workflow:
    """The workflow with the changes of a task."""
    task = replace(TASK, options={"overrides": overrides})
    return apply_request_overrides(load_builtin(name), task, ALLOWED)


def test_changes_are_merged_recursively() -> None:
    """By id or title; what is not named stays, whole numbers are whole, and the workflow itself is as before."""
    before = load_builtin(FLUX)
    after = changed(
        {
            "Size": {"inputs": {"batch_size": 2.0}},
            "Diffusion model": {"inputs": {"weight_dtype": "fp8_e4m3fn"}},
        }
    )
    assert after.graph["latent"].inputs == {"width": 1024, "height": 1024, "batch_size": 2}
    assert isinstance(after.graph["latent"].inputs["batch_size"], int)
    assert after.graph["unet"].inputs["weight_dtype"] == "fp8_e4m3fn"
    assert after.graph["unet"].inputs["unet_name"] == before.graph["unet"].inputs["unet_name"]
    assert before.graph["latent"].inputs["batch_size"] == 1
    assert apply_request_overrides(before, TASK, ALLOWED) is before


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"Size": {"inputs": {"width": 64}}}, r"Size\.inputs\.width may not be changed"),
        ({"Sampler": {"inputs": {"cfg": 1}}}, r"Sampler\.inputs\.cfg may not be changed"),
        ({"Size": {"class_type": {"batch_size": 1}}}, "may not be changed"),
        ({"Size": {"inputs": {"batch_size": ["unet", 0]}}}, "batch_size"),
        ({"Size": {"inputs": {"batch_size": None}}}, "batch_size"),
        ({"Size": {"inputs": {"batch_size": "two"}}}, "must be a number"),
        ({"Size": {"inputs": {"batch_size": True}}}, "must be a number"),
        ({"Size": 3}, "Size"),
    ],
)
def test_nothing_else_is_changed(overrides: Mapping[str, Any], words: str) -> None:
    """No other input, no node, no link and no value of another type."""
    with pytest.raises(InvalidTaskError, match=words):
        changed(overrides)


def test_an_input_of_another_workflow_is_refused() -> None:
    """The inpainting workflow has no such node."""
    with pytest.raises(InvalidTaskError, match="sdxl_inpaint, which this task needs"):
        changed({"Diffusion model": {"inputs": {"weight_dtype": "default"}}}, "sdxl_inpaint")


def test_the_schema_names_what_may_be_changed() -> None:
    """So that a request is refused before it is accepted."""
    schema = build_overrides_schema([load_builtin(FLUX)], ALLOWED)
    (found,) = find_option_violations(schema, {"Size": {"inputs": {"width": 1}}})
    assert "batch_size" in found.message
    assert not find_option_violations(schema, {"Size": {"inputs": {"batch_size": 2}}})
    assert find_option_violations(schema, {"Size": {"inputs": {"batch_size": "2"}}})


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        ({"Sizes": ["batch_size"]}, "no node 'Sizes'"),
        ({"Size": ["batch"]}, "no input 'batch'; it has width"),
        ({"Size": ["width"]}, "takes the task's width"),
        ({"Sampler": ["denoise"]}, "takes the task's strength"),
        ({"Sampler": ["model"]}, "is linked to a node"),
    ],
)
def test_what_cannot_be_allowed_fails_the_start(allowed: dict[str, Any], words: str) -> None:
    """A typo, what a task decides anyway in any of the workflows, and links."""
    with pytest.raises(WorkflowError, match=words):
        load_workflows(WorkflowConfig(request_overrides=allowed))
