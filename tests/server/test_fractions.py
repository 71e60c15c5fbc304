"""Fractions cross the contract as 32-bit floats, and select as many steps as the decimals that callers wrote."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the extra `local` is not installed")

from diffusers import StableDiffusionXLImg2ImgPipeline

from atelier.v1 import task_pb2
from atelier_client import Client
from atelier_client.enums import Disposition
from atelier_client.errors import InvalidRequestError
from atelier_client.results import Parameter
from atelier_engines.diffusion.capabilities import build_capabilities, unloaded_info
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.controls.prepared_control import PreparedControl
from atelier_engines.media import Pixels
from atelier_engines.task import ImageTask, count_steps_left
from atelier_server.admission.image_task import resolve_image_task
from atelier_server.admission.parameters import ParameterRecorder
from atelier_server.config.settings import LoraSettings
from tests.conftest import RunningServer, launch

FRACTIONS = [number / 100 for number in range(101)]
STEPS = range(1, 61)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with the trained model alone."""
    running = launch(
        tmp_path_factory.mktemp("fractions"),
        environment={},
        wait=["tiny"],
        engines={"tiny": {"type": "diffusion", "device": "cpu"}},
    )
    yield running
    running.kill()


def picture() -> bytes:
    """A small PNG."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(file, "PNG")
    return file.getvalue()


def decide(request: task_pb2.ImageTask) -> ImageTask:
    """What is decided of a request after it was sent, for a diffusion engine."""
    sent = task_pb2.ImageTask.FromString(request.SerializeToString())
    image = Pixels(array=np.zeros((64, 64, 3), np.uint8))
    config = DiffusionConfig(model="none")
    capabilities = build_capabilities(config, unloaded_info(config)).image
    assert capabilities is not None
    return resolve_image_task(
        sent,
        capabilities,
        ParameterRecorder(),
        styles={},
        loras=LoraSettings(),
        images={"init_image": image, "controls[0].image": image},
        options={},
        random_seed=1,
    )


def test_every_strength_runs_the_steps_that_diffusers_runs() -> None:
    """All hundredths, and every number of steps up to 60: one step where diffusers would run none."""
    for steps in STEPS:
        scheduler = SimpleNamespace(timesteps=range(steps), order=1)
        pipeline = SimpleNamespace(scheduler=scheduler)
        for strength in FRACTIONS:
            request = task_pb2.ImageTask(prompt="a", steps=steps, strength=strength)
            request.init_image.attachment = "start"
            task = decide(request)
            get_timesteps = StableDiffusionXLImg2ImgPipeline.get_timesteps
            _, wanted = get_timesteps(pipeline, steps, strength, "cpu")
            least = 1 if strength else 0
            assert count_steps_left(steps, task.strength) == max(wanted, least), (steps, strength)


def test_every_start_and_end_of_a_control_keeps_its_steps() -> None:
    """All hundredths, and every number of steps up to 60, as diffusers decides."""
    for fraction in FRACTIONS:
        request = task_pb2.ImageTask(prompt="a")
        image = task_pb2.MediaSource(attachment="map")
        kind = task_pb2.CONTROL_TYPE_CANNY
        request.controls.add(type=kind, image=image, start=fraction, end=fraction)
        (control,) = decide(request).controls
        early, late = (
            PreparedControl(network="canny", map=None, strength=1.0, start=start, end=end)  # type: ignore[arg-type]  # its map is not looked at
            for start, end in [(0.0, control.end), (control.start, 1.0)]
        )
        for steps in STEPS:
            for step in range(steps):  # as controlnet_keep of StableDiffusionXLControlNetPipeline
                ends, begins = (step + 1) / steps > fraction, step / steps < fraction
                assert early.scale_at(step, steps) == 1.0 - float(ends), (step, steps, fraction)
                assert late.scale_at(step, steps) == 1.0 - float(begins), (step, steps, fraction)


def test_other_fractions_are_the_decimals_that_were_written() -> None:
    """Guidance, weights of LoRAs, strengths of controls and factors of upscaling."""
    request = task_pb2.ImageTask(prompt="a", guidance=7.1)
    request.loras.add(name="one", weight=-0.7)
    request.upscale.factor = 1.05
    image = task_pb2.MediaSource(attachment="map")
    request.controls.add(type=task_pb2.CONTROL_TYPE_CANNY, image=image, strength=0.35)
    task = decide(request)
    assert task.upscale is not None
    assert (task.guidance, task.loras[0].weight, task.upscale.factor) == (7.1, -0.7, 1.05)
    assert task.controls[0].strength == 0.35


@pytest.mark.parametrize(
    ("strength", "steps", "run"), [(0.7, 10, 7), (0.9, 10, 9), (0.9, 20, 18), (0.2, 4, 1)]
)
def test_so_many_steps_are_run(tiny: RunningServer, strength: float, steps: int, run: int) -> None:
    """Counted in the events."""
    with Client(tiny.address) as client:
        task = {"init_image": picture(), "strength": strength, "steps": steps}
        events = list(client.stream("a", width=64, height=64, **task))  # type: ignore[arg-type]  # fields by name
    assert max(event.step for event in events) == run


@pytest.mark.parametrize(("strength", "steps"), [(0.2, 4), (0.99, 1), (0.01, 49), (1e-6, 60)])
def test_a_strength_that_leaves_no_step_is_told_or_refused(
    tiny: RunningServer, strength: float, steps: int
) -> None:
    """The used strength leaves one step; a strict request is refused by name."""
    task = {"init_image": picture(), "strength": strength, "steps": steps, "width": 64}
    with Client(tiny.address) as client:
        told = find_strength(client.plan("a", height=64, **task).parameters)  # type: ignore[arg-type]  # fields by name
        with pytest.raises(InvalidRequestError, match="no whole step"):
            client.plan("a", height=64, strict=True, **task)  # type: ignore[arg-type]  # fields by name
    assert told.disposition is Disposition.CLAMPED
    assert int(steps * told.value) == 1  # type: ignore[operator]  # a number, as strength is
    assert f"{strength:g} of {steps} steps" in told.explanation


def test_strength_0_keeps_the_image_and_the_default_leaves_a_step(tiny: RunningServer) -> None:
    """The one is asked for; the other is nobody's fault, so a strict request is taken."""
    task = {"init_image": picture(), "steps": 1, "width": 96, "height": 96, "strict": True}
    with Client(tiny.address) as client:
        kept = find_strength(client.plan("a", strength=0.0, **task).parameters)  # type: ignore[arg-type]  # fields by name
        default = find_strength(client.plan("a", **task).parameters)  # type: ignore[arg-type]  # fields by name
    assert (kept.disposition, kept.value) == (Disposition.APPLIED, 0)
    assert (default.disposition, default.value) == (Disposition.DEFAULTED, 1)


def find_strength(parameters: tuple[Parameter, ...]) -> Parameter:
    """The receipt's entry for strength."""
    (found,) = [parameter for parameter in parameters if parameter.name == "strength"]
    return found
