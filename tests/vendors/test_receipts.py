"""What a receipt calls APPLIED was sent to the service: every engine, every parameter, with and without images.

Each parameter is changed alone. If the receipt says APPLIED, the service must receive something else, and if it says
IGNORED, the same. Sizes are seen in the result, since services that take no pixels draw another size, which is scaled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from importlib.metadata import entry_points
from itertools import permutations

import numpy as np
import pytest

from atelier.v1 import task_pb2 as pb
from atelier.v1.generation_pb2 import Disposition, Parameter
from atelier_engines import validation
from atelier_engines.capabilities import ImageCapabilities, ImageFeature, IntegerRange, NumberRange
from atelier_engines.conformance.remote_service import FakeService, run_engine
from atelier_engines.engine import Engine
from atelier_engines.errors import InvalidTaskError
from atelier_engines.event import Output
from atelier_engines.media import Encoded, Pixels
from atelier_server.admission.image_task import resolve_image_task
from atelier_server.admission.parameters import ParameterRecorder
from atelier_server.config.settings import LoraSettings
from atelier_server.errors import InvalidRequestError
from tests.vendors.subjects import STAND_INS, SUBJECTS, Subject, read_received

MODES: Mapping[str, tuple[str, ...]] = {
    "text": (),
    "image": ("init_image",),
    "mask": ("init_image", "mask"),
}
NEEDS = {"image": ImageFeature.IMAGE_TO_IMAGE, "mask": ImageFeature.INPAINTING}
LOCAL = {"sketch", "diffusion", "upscale", "tangoflux", "stable_audio", "stable_audio_3", "speech"}
"""Engines that run here."""
FORWARDING = {"atelier", "vastai"}
"""Engines that pass tasks on; tests/totality covers them."""
RANDOM = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
"""Ids that are drawn for each task."""
APPLIED, IGNORED = Disposition.DISPOSITION_APPLIED, Disposition.DISPOSITION_IGNORED
LARGE = 7 + 2**40
IMAGES = {
    "init_image": Pixels(array=np.full((64, 64, 3), 90, np.uint8)),
    "mask": Pixels(array=np.where(np.indices((64, 64, 1))[0] < 32, 255, 0).astype(np.uint8)),
}
CONTROL_IMAGES = {"controls[0].image": IMAGES["init_image"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One request, and what became of it."""

    recorder: ParameterRecorder
    received: list[str]
    outputs: list[Output]

    def find(self, name: str) -> Parameter | None:
        """What the receipt says about a parameter."""
        return next((one for one in self.recorder.parameters if one.name == name), None)


@pytest.fixture(scope="module")
def services() -> Iterator[Mapping[str, FakeService]]:
    """All fake services."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(start()) for name, start in STAND_INS.items()}


def choices(capabilities: ImageCapabilities) -> dict[str, tuple[object, object]]:
    """Two values of every parameter, which the engine takes if it takes the parameter at all."""
    values: dict[str, tuple[object, object]] = {
        "negative_prompt": ("rain", "fog"),
        "seed": (capabilities.min_seed + 7, capabilities.min_seed + 8),
        "strength": (0.4, 0.8),
        "steps": _integers(capabilities.steps),
        "guidance": _numbers(capabilities.guidance),
    }
    if len(capabilities.schedulers) > 1:
        values["scheduler"] = (capabilities.schedulers[0], capabilities.schedulers[1])
    if len(capabilities.models) > 1:
        values["model"] = (capabilities.models[0].name, capabilities.models[1].name)
    return values


def _integers(allowed: IntegerRange | None) -> tuple[int, int]:
    if allowed is None:
        return 7, 8
    if allowed.allowed_values:
        return allowed.allowed_values[0], allowed.allowed_values[-1]
    return allowed.min, min(allowed.max, allowed.min + 4 * allowed.multiple_of)


def _numbers(allowed: NumberRange | None) -> tuple[float, float]:
    if allowed is None:
        return 4.0, 5.0
    third = (allowed.max - allowed.min) / 3
    return round(allowed.min + third, 1), round(allowed.max - third, 1)


def size_of(capabilities: ImageCapabilities) -> dict[str, int]:
    """A small size, which is not square where the engine has a choice."""
    return {
        "width": _least(capabilities.width, 128),
        "height": _least(capabilities.height, 192),
    }


def _least(side: IntegerRange, wanted: int) -> int:
    if side.allowed_values:
        return side.allowed_values[0]
    return min(max(side.min, -(-wanted // side.multiple_of) * side.multiple_of), side.max)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A started engine that is given requests."""

    engine: Engine
    service: FakeService
    mode: str

    @property
    def capabilities(self) -> ImageCapabilities:
        """For images."""
        image = self.engine.capabilities.image
        assert image is not None
        return image

    @property
    def can_run(self) -> bool:
        """Whether the engine takes such images."""
        return self.mode not in NEEDS or NEEDS[self.mode] in self.capabilities.features

    async def run(self, **values: object) -> Run:
        """Decide the request as the server does, and run it.

        Raises:
            InvalidTaskError: the engine refuses it.
        """
        self.service.reset()
        given = {**size_of(self.capabilities), "prompt": "a mill", **values}
        request = pb.ImageTask(**given)  # type: ignore[arg-type]  # fields by name
        for name in MODES[self.mode]:
            getattr(request, name).attachment = name
        recorder = ParameterRecorder()
        task = resolve_image_task(
            request,
            self.capabilities,
            recorder,
            styles={},
            loras=LoraSettings(),
            images={name: IMAGES[name] for name in MODES[self.mode]} | CONTROL_IMAGES,
            options={},
            random_seed=1,
        )
        validation.validate(self.engine.capabilities, task)
        async with aclosing(self.engine.run(task)) as events:
            outputs = [event async for event in events if isinstance(event, Output)]
        # Requests for the images of one task are sent side by side: they arrive in any order.
        received = sorted(RANDOM.sub("…", repr(one)) for one in read_received(self.service))
        return Run(recorder=recorder, received=received, outputs=outputs)


async def run_accepted(trial: Trial, values: Mapping[str, object]) -> tuple[dict[str, object], Run]:
    """The values that the engine takes, of which it refuses the others by name, and a run with them."""
    taken = dict(values)
    while True:
        try:
            return taken, await trial.run(**taken)
        except InvalidTaskError as error:
            del taken[error.field]


def compare(field: str, first: Run, second: Run) -> None:
    """What the receipts say about a parameter that was changed, beside what the service received."""
    told = [run.find(field) for run in (first, second)]
    kinds = {one.disposition for one in told if one is not None}
    assert len(kinds) == 1, f"{field} is told in two ways"
    if kinds == {APPLIED}:
        assert first.received != second.received, f"{field} was not sent"
    else:
        assert kinds <= {IGNORED, Disposition.DISPOSITION_CLAMPED}
        assert first.received == second.received, f"{field} was sent"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
async def test_what_is_applied_was_sent(
    services: Mapping[str, FakeService], subject: Subject, mode: str
) -> None:
    """And what is ignored was not."""
    service = services[subject.engine]
    service.reset()
    async with run_engine(service, **subject.settings) as engine:
        trial = Trial(engine=engine, service=service, mode=mode)
        if not trial.can_run:
            pytest.skip("it takes no such image")
        values = choices(trial.capabilities)
        base = {name: first for name, (first, _) in values.items()}
        base, plain = await run_accepted(trial, base)
        assert plain.received == (await trial.run(**base)).received, "the comparison is void"
        (output,) = plain.outputs
        assert size(output) == tuple(size_of(trial.capabilities).values())
        for name in base:
            compare(name, plain, await trial.run(**{**base, name: values[name][1]}))


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
async def test_every_number_of_a_lora_and_a_control_is_sent(
    services: Mapping[str, FakeService], subject: Subject
) -> None:
    """An engine that lists LoRAs or types of controls sends their weight, strength, start and end."""
    service = services[subject.engine]
    service.reset()
    async with run_engine(service, **subject.settings) as engine:
        trial = Trial(engine=engine, service=service, mode="text")
        for changes in (_loras(trial.capabilities), _controls(trial.capabilities)):
            sent = [(await trial.run(seed=7, **change)).received for change in changes]
            assert all(one not in sent[:index] for index, one in enumerate(sent))


def _loras(capabilities: ImageCapabilities) -> list[dict[str, object]]:
    """Requests that differ in one number each."""
    if not capabilities.loras:
        return []
    name = capabilities.loras[0]
    return [{"loras": [pb.Lora(name=name, weight=weight)]} for weight in (0.5, 1.25)]


def _controls(capabilities: ImageCapabilities) -> list[dict[str, object]]:
    """As `_loras`."""
    if not capabilities.control_types:
        return []
    kind = pb.ControlType.Value(f"CONTROL_TYPE_{capabilities.control_types[0].name}")
    image = pb.MediaSource(attachment="control")
    controls = [
        pb.Control(type=kind, image=image),
        pb.Control(type=kind, image=image, strength=0.4),
        pb.Control(type=kind, image=image, start=0.2),
        pb.Control(type=kind, image=image, end=0.6),
    ]
    return [{"controls": [control]} for control in controls]


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
async def test_the_seed_of_the_receipt_is_the_one_that_was_sent(
    services: Mapping[str, FakeService], subject: Subject
) -> None:
    """Also where the service takes fewer bits, and for the last seed of several images; strict refuses both."""
    service = services[subject.engine]
    service.reset()
    async with run_engine(service, **subject.settings) as engine:
        trial = Trial(engine=engine, service=service, mode="text")
        if ImageFeature.SEED not in trial.capabilities.features:
            return
        count, most = min(trial.capabilities.max_images, 2), trial.capabilities.max_seed
        for requested in (LARGE, most):
            run = await trial.run(seed=requested, num_images=count)
            told = run.find("seed")
            assert told is not None
            first = int(told.value.string_value)
            assert [output.seed for output in run.outputs] == list(range(first, first + count))
            assert len(run.received) == count
            numbers = [re.findall(r"[\d.]+", sent) for sent in run.received]
            assert any(
                all(str(seed) in sent for seed, sent in enumerate(order, first))
                for order in permutations(numbers)
            ), f"the seeds from {first} were not sent"
            assert (told.disposition == APPLIED) == (first == requested)
            if first != requested:
                assert told.disposition == Disposition.DISPOSITION_CLAMPED
                with pytest.raises(InvalidRequestError, match=f"seeds of .* to {most}"):
                    run.recorder.reject_changes("image")


def test_every_engine_of_a_remote_service_is_covered() -> None:
    """A new one needs a fake service here."""
    engines = {one.name for one in entry_points(group="atelier.engines")}
    assert engines - LOCAL - FORWARDING == STAND_INS.keys() == {one.engine for one in SUBJECTS}


def size(output: Output) -> tuple[int, int]:
    """Width and height of an image in pixels."""
    media = output.media
    assert isinstance(media, Encoded | Pixels)
    return media.width, media.height
