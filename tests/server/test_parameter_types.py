"""The receipt's parameters as programs read them: one type each, and no bit lost in JavaScript."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToJson

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import Parameter
from atelier.v1.task_pb2 import AudioTask, ImageTask, MediaSource
from atelier_engines.capabilities import AudioCapabilities, ImageCapabilities, NumberRange
from atelier_engines.media import Samples
from atelier_server.admission.audio_task import resolve_audio_task
from atelier_server.admission.image_task import resolve_image_task
from atelier_server.admission.parameters import ParameterRecorder
from atelier_server.config.settings import LoraSettings
from atelier_server.errors import InvalidRequestError
from tests.server.calls import Stub, image_request, receipt_of
from tests.totality.tasks import PERMISSIVE

SAFE = 2**53
SEEDS = (0, 7, SAFE - 1, SAFE, 2**63 - 1)
VALUES: Mapping[int, tuple[object, ...]] = {
    FieldDescriptor.CPPTYPE_UINT32: (1, 3, 1000),
    FieldDescriptor.CPPTYPE_UINT64: SEEDS,
    FieldDescriptor.CPPTYPE_FLOAT: (0.0, 1.0, 2.5, 99.0),
    FieldDescriptor.CPPTYPE_STRING: ("", "7"),
    FieldDescriptor.CPPTYPE_BOOL: (False, True),
}
assert PERMISSIVE.image is not None
assert PERMISSIVE.audio is not None
WHOLE_GUIDANCE = NumberRange(min=1, max=20, default=7)  # integers, where floats are meant
IMAGES = (
    PERMISSIVE.image,
    replace(PERMISSIVE.image, guidance=WHOLE_GUIDANCE),
    ImageCapabilities(
        width=PERMISSIVE.image.width, height=PERMISSIVE.image.height, max_pixels=10**6
    ),
)
AUDIOS = (
    PERMISSIVE.audio,
    replace(PERMISSIVE.audio, guidance=WHOLE_GUIDANCE),
    AudioCapabilities(
        duration_seconds=NumberRange(min=1, max=20, default=7), sample_rates=(8000,), channels=(1,)
    ),
)

THREE_SECONDS = Samples(array=np.zeros((24000, 1), np.float32), sample_rate=8000)


def assignments(kind: Descriptor) -> Iterator[Mapping[str, object]]:
    """Every field of the task by itself with each value of its type, and none at all."""
    yield {}
    for field in kind.fields:
        if field.enum_type is not None:
            yield from ({field.name: value.number} for value in field.enum_type.values)
        elif field.name == "aspect_ratio":  # other texts are no ratios, which the contract refuses
            yield from ({field.name: value} for value in ("", "16:9"))
        elif field.message_type is None:
            yield from ({field.name: value} for value in VALUES[field.cpp_type])


def record_images() -> Iterator[Parameter]:
    """The parameters of every image task on every kind of engine."""
    given = [one for one in assignments(ImageTask.DESCRIPTOR) if not one.get("aspect_ratio")]
    for values, capabilities in product([*given, {"aspect_ratio": "4:3"}], IMAGES):
        if values.get("style"):
            continue  # there are none here
        recorder = ParameterRecorder()
        resolve_image_task(
            ImageTask(**values),  # type: ignore[arg-type]  # fields by name
            capabilities,
            recorder,
            styles={},
            loras=LoraSettings(),
            images={},
            options={},
            random_seed=5,
        )
        yield from recorder.parameters


def record_audios() -> Iterator[Parameter]:
    """The parameters of every audio task on every kind of engine."""
    sources = (None, MediaSource(attachment="a"))
    for values, capabilities, source in product(assignments(AudioTask.DESCRIPTOR), AUDIOS, sources):
        for seconds in (0, 2):
            task = AudioTask(init_audio=source, **values)  # type: ignore[arg-type]  # fields by name
            if seconds:
                task.duration.FromSeconds(seconds)
            recorder = ParameterRecorder()
            with suppress(InvalidRequestError):  # what no file can hold
                resolve_audio_task(
                    task,
                    capabilities,
                    recorder,
                    init_audio=None if source is None else THREE_SECONDS,
                    options={},
                    random_seed=5,
                )
            yield from recorder.parameters


@pytest.mark.parametrize("record", [record_images, record_audios])
def test_a_parameter_has_one_type(record: Callable[[], Iterator[Parameter]]) -> None:
    """Whatever is requested, decided, clamped or ignored."""
    types: defaultdict[str, set[str | None]] = defaultdict(set)
    for parameter in record():
        for field in ("value", "requested"):
            if parameter.HasField(field):
                types[parameter.name].add(getattr(parameter, field).WhichOneof("kind"))
    assert {"seed", "steps", "guidance", "model", "negative_prompt"} <= set(types)
    assert {name: found for name, found in types.items() if len(found) > 1} == {}
    assert types["seed"] == {"string_value"}
    assert types["steps"] == types["guidance"] == {"number_value"}


async def test_drawn_seeds_stay_within_what_javascript_holds(stub: Stub) -> None:
    """Those of all images of a task."""
    for _ in range(30):
        plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=image_request()))
        (seed,) = [entry.value for entry in plan.parameters if entry.name == "seed"]
        assert int(seed.string_value) < SAFE - 64
    made = (await stub.Generate(image_request(task={"num_images": 3}))).generation
    first = int(receipt_of(made)["seed"].value.string_value)
    assert [output.seed for output in made.outputs] == [first, first + 1, first + 2]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
@pytest.mark.parametrize("seed", [None, *SEEDS])
async def test_javascript_reads_every_seed(stub: Stub, seed: int | None) -> None:
    """In protobuf's JSON: the receipt's digits are those of the output, and drawn ones are exact as numbers."""
    task = {} if seed is None else {"seed": seed}
    made = (await stub.Generate(image_request(task=task))).generation
    program = """
        const made = JSON.parse(require("fs").readFileSync(0));
        const seed = made.receipt.parameters.find(({name}) => name === "seed").value;
        const exact = String(Number(seed)) === seed && Number.isSafeInteger(Number(seed));
        console.log(JSON.stringify([seed, made.outputs[0].seed ?? "0", exact]));
    """
    done = subprocess.run(  # noqa: ASYNC221 (nothing else runs here)
        ["node", "-e", program],  # noqa: S607 (wherever it is installed)
        input=MessageToJson(made),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    recorded, output, exact = json.loads(done.stdout)
    assert recorded == output == str(made.outputs[0].seed)
    assert exact == (seed is None or seed < SAFE)
