"""What the profile for speed does to steps and scheduler, and what concept LoRAs add."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from atelier.v1.generation_pb2 import Disposition
from atelier.v1.task_pb2 import RESOURCE_PROFILE_SPEED, ImageTask, Lora
from atelier_engines.capabilities import ImageCapabilities, ImageFeature, IntegerRange
from atelier_engines.task import ImageTask as EngineTask
from atelier_engines.task import ResourceProfile
from atelier_server.admission.image_task import resolve_image_task
from atelier_server.admission.parameters import ParameterRecorder
from atelier_server.config.settings import ConceptLoraSettings, LoraSettings, StyleSettings

SIDE = IntegerRange(min=64, max=512, default=128)
ENGINE = ImageCapabilities(
    width=SIDE,
    height=SIDE,
    max_pixels=512 * 512,
    steps=IntegerRange(min=1, max=100, default=30),
    schedulers=("heun", "euler", "dpmpp_2m"),
    resource_profiles=tuple(ResourceProfile),
    features=frozenset({ImageFeature.LORA}),
    loras=("sea", "ink"),
    max_loras=2,
)
CONCEPTS = LoraSettings(
    concepts={
        "lighthouse": ConceptLoraSettings(name="sea", weight=0.8),
        "oil painting": ConceptLoraSettings(name="ink", weight=1.0),
        "moon": ConceptLoraSettings(name="gone", weight=1.0),
    }
)
Noted = dict[str, tuple[float | str, str, str]]


def decide(
    engine: ImageCapabilities = ENGINE,
    settings: LoraSettings | None = None,
    prompt: str = "a lamp",
    **task: Any,  # noqa: ANN401 (fields of a task)
) -> tuple[EngineTask, Noted]:
    """The task for the engine, and the receipt: value, disposition and explanation by name."""
    recorder = ParameterRecorder()
    decided = resolve_image_task(
        ImageTask(prompt=prompt, **task),
        engine,
        recorder,
        styles={"slow": StyleSettings(steps=45)},
        loras=settings or LoraSettings(),
        images={},
        options={},
        random_seed=1,
    )
    noted = {
        one.name: (
            one.value.number_value or one.value.string_value,
            Disposition.Name(one.disposition).removeprefix("DISPOSITION_"),
            one.explanation,
        )
        for one in recorder.parameters
    }
    return decided, noted


def test_speed_caps_the_steps_and_takes_a_fast_scheduler() -> None:
    """The receipt says why."""
    task, noted = decide(resource_profile=RESOURCE_PROFILE_SPEED)
    assert (task.steps, task.scheduler) == (20, "dpmpp_2m")
    assert task.resource_profile is ResourceProfile.SPEED
    for name in ("steps", "scheduler"):
        assert noted[name][1] == "DEFAULTED"
        assert "resource_profile speed" in noted[name][2]
    task, _ = decide()
    assert (task.steps, task.scheduler) == (30, "heun")


@pytest.mark.parametrize(
    ("asked", "steps", "scheduler"),
    [
        ({"steps": 40}, 40, "heun"),
        ({"scheduler": "heun"}, 20, "heun"),
        ({"style": "slow"}, 45, "heun"),
    ],
)
def test_what_is_named_stays(asked: dict[str, Any], steps: int, scheduler: str) -> None:
    """By the caller, or by the style that the caller names."""
    task, _ = decide(resource_profile=RESOURCE_PROFILE_SPEED, **asked)
    assert (task.steps, task.scheduler) == (steps, scheduler)


def test_a_model_made_for_few_steps_keeps_its_own() -> None:
    """Another scheduler would spoil it."""
    few = replace(ENGINE, steps=IntegerRange(min=1, max=8, default=4), schedulers=("lcm", "euler"))
    task, noted = decide(few, resource_profile=RESOURCE_PROFILE_SPEED)
    assert (task.steps, task.scheduler) == (4, "lcm")
    assert noted["resource_profile"][1] == "APPLIED"


def test_an_engine_without_profiles_takes_fewer_steps_all_the_same() -> None:
    """The receipt says that this stands in for the profile; without steps it is ignored."""
    task, noted = decide(
        replace(ENGINE, resource_profiles=()), resource_profile=RESOURCE_PROFILE_SPEED
    )
    assert (task.steps, task.resource_profile) == (20, None)
    assert noted["resource_profile"][:2] == ("speed", "EMULATED")
    task, noted = decide(
        replace(ENGINE, resource_profiles=(), steps=None), resource_profile=RESOURCE_PROFILE_SPEED
    )
    assert noted["resource_profile"][1] == "IGNORED"


def test_words_in_the_prompt_apply_their_loras() -> None:
    """Whole words in any case; the receipt names the LoRA and the words. Without configuration none does."""
    task, noted = decide(settings=CONCEPTS, prompt="A Lighthouse, at dawn")
    assert [(lora.name, lora.weight) for lora in task.loras] == [("sea", 0.8)]
    assert noted["loras"] == ("sea:0.8", "DEFAULTED", "the prompt has 'lighthouse'")
    assert decide(settings=CONCEPTS, prompt="an oil  painting")[0].loras[0].name == "ink"
    for prompt in ("lighthouses", "oil on a painting", "a lamp"):
        assert decide(settings=CONCEPTS, prompt=prompt)[0].loras == ()
    assert decide(prompt="a lighthouse")[0].loras == ()


def test_a_lora_that_the_task_names_keeps_its_weight() -> None:
    """It is applied once."""
    task, noted = decide(
        settings=CONCEPTS, prompt="a lighthouse", loras=[Lora(name="sea", weight=0.25)]
    )
    assert [(lora.name, lora.weight) for lora in task.loras] == [("sea", 0.25)]
    assert "the prompt has" not in noted.get("loras", ("", "", ""))[2]


def test_what_the_engine_cannot_apply_is_told() -> None:
    """A LoRA that it lacks, and one too many; an engine without LoRAs has nothing to tell."""
    task, noted = decide(settings=CONCEPTS, prompt="the moon")
    assert (task.loras, noted["loras"][2]) == (
        (),
        "the prompt has 'moon', but this engine has no LoRA gone",
    )
    one = replace(ENGINE, max_loras=1)
    task, noted = decide(one, settings=CONCEPTS, prompt="oil painting of a lighthouse")
    assert [lora.name for lora in task.loras] == ["sea"]
    _, noted = decide(replace(ENGINE, features=frozenset()), settings=CONCEPTS, prompt="the moon")
    assert "loras" not in noted
