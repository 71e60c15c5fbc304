"""Seeds beyond what an engine takes: the receipt says which one was used, and strict refuses."""

from __future__ import annotations

import pytest

from atelier.v1 import task_pb2 as pb
from atelier.v1.generation_pb2 import Disposition
from atelier_engines.capabilities import MAX_SEED, ImageCapabilities, ImageFeature, IntegerRange
from atelier_server.admission.image_task import resolve_image_task
from atelier_server.admission.parameters import ParameterRecorder
from atelier_server.config.settings import LoraSettings
from atelier_server.errors import InvalidRequestError

SIDE = IntegerRange(min=64, max=512, default=64)
APPLIED, CLAMPED = Disposition.DISPOSITION_APPLIED, Disposition.DISPOSITION_CLAMPED
BITS_32 = 2**32 - 1


def decide(
    request: pb.ImageTask, *, least: int = 0, most: int = MAX_SEED, drawn: int = 5
) -> tuple[tuple[int, ...], ParameterRecorder]:
    """The seeds of the images, and the receipt, for an engine that takes seeds in that range."""
    capabilities = ImageCapabilities(
        width=SIDE,
        height=SIDE,
        max_pixels=512 * 512,
        features=frozenset({ImageFeature.SEED}),
        min_seed=least,
        max_seed=most,
    )
    recorder = ParameterRecorder()
    task = resolve_image_task(
        request,
        capabilities,
        recorder,
        styles={},
        loras=LoraSettings(),
        images={},
        options={},
        random_seed=drawn,
    )
    return task.seeds, recorder


@pytest.mark.parametrize(
    ("seed", "count", "least", "most", "used"),
    [
        (7, 1, 0, BITS_32, 7),
        (BITS_32, 1, 0, BITS_32, BITS_32),
        (BITS_32 + 1, 1, 0, BITS_32, 0),
        (7 + 2**40, 2, 0, BITS_32, 7),
        (BITS_32, 2, 0, BITS_32, BITS_32 - 1),
        (MAX_SEED, 1, 0, MAX_SEED, MAX_SEED),
        (MAX_SEED, 3, 0, MAX_SEED, MAX_SEED - 2),
        (0, 1, 1, 1000, 1000),
        (5000, 1, 1, 1000, 1000),
        (1001, 1, 1, 1000, 1),
    ],
)
def test_a_seed_out_of_range_is_reduced_and_told(
    seed: int, count: int, least: int, most: int, used: int
) -> None:
    """Modulo the range, and lowered where those of further images would exceed it: image n has seed + n."""
    request = pb.ImageTask(prompt="a", seed=seed, num_images=count)
    seeds, recorder = decide(request, least=least, most=most)
    assert seeds == tuple(range(used, used + count))
    (told,) = [one for one in recorder.parameters if one.name == "seed"]
    assert (told.value.string_value, told.requested.string_value) == (str(used), str(seed))
    assert told.disposition == (APPLIED if used == seed else CLAMPED)
    if used == seed:
        recorder.reject_changes("image")
        return
    assert f"this engine takes seeds of {least} to {most}" in told.explanation
    with pytest.raises(InvalidRequestError, match="takes seeds of"):
        recorder.reject_changes("image")


def test_a_random_seed_is_one_that_the_engine_takes() -> None:
    """It is the server's own choice, so that strict has nothing against it."""
    seeds, recorder = decide(pb.ImageTask(prompt="a", num_images=2), most=BITS_32, drawn=2**50 + 9)
    assert seeds == (9, 10)
    recorder.reject_changes("image")
