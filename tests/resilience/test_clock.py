"""What a change of the wall clock may not change: deadlines, retention, and measured times."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import Generation, State
from tests.conftest import RunningServer, StartServer
from tests.resilience.follower import Connect, wait_ended, wait_until
from tests.server.calls import Stub, image_request, on_acceptance, refusal, slow_request
from tests.server.test_metrics import samples

_HOUR = 3600
_NARROW: Mapping[str, Mapping[str, object]] = {"sketch": {"type": "sketch", "concurrency": 1}}


@dataclass(frozen=True, slots=True)
class WallClock:
    """The wall clock of a server, changed while the server runs; its monotonic clock is not (see wall_clock.c)."""

    library: Path
    offset: Path

    def step(self, seconds: int) -> None:
        """Let it be so much ahead of the real one, or behind."""
        self.offset.touch()
        with self.offset.open("r+b") as file:  # in place: a server has it mapped
            file.write(struct.pack("=q", seconds))

    def environment(self) -> Mapping[str, str]:
        """What a server has to start with."""
        return {"LD_PRELOAD": str(self.library), "WALL_CLOCK_OFFSET": str(self.offset)}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What moves the wall clock of a process that loads it."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler here (Debian: apt-get install gcc libc6-dev)")
    made = tmp_path_factory.mktemp("clock") / "wall_clock.so"
    source = Path(__file__).with_name("wall_clock.c")
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-O2",
        "-Wall",
        "-Werror",
        "-o",
        str(made),
        str(source),
    ]
    subprocess.run(command, check=True)
    return made


@pytest.fixture
def clock(library: Path, tmp_path: Path) -> WallClock:
    """The right time."""
    made = WallClock(library, tmp_path / "offset")
    made.step(0)
    return made


@pytest.mark.parametrize("hours", [2, -2])
async def test_a_step_of_the_clock_moves_no_deadline_and_no_expiry(
    start_server: StartServer, connect: Connect, clock: WallClock, hours: int
) -> None:
    """What ended before and after it is kept, what waits goes on waiting, and what has a short time runs out of it."""
    server = start_server(
        engines=_NARROW, store={"retention_seconds": _HOUR}, environment=clock.environment()
    )
    async with connect(server) as stub:
        kept = [(await stub.Generate(image_request())).generation]
        running = await _submit(stub, slow_request(600.0))
        patient = await _submit(stub, image_request(timeout_seconds=_HOUR))
        hurried = await _submit(stub, image_request(timeout_seconds=10.0))
        clock.step(hours * _HOUR)
        (late,) = [one for one in await wait_ended(stub, [hurried.id]) if one.id == hurried.id]
        assert late.failure.reason == "DEADLINE_EXCEEDED"

        await _cancel(stub, running)
        found = {one.id: one for one in await wait_ended(stub, [patient.id])}
        assert found[patient.id].state == State.STATE_SUCCEEDED
        kept += [found[patient.id], (await stub.Generate(image_request())).generation]
        moved = kept[-1].create_time.seconds - kept[0].create_time.seconds
        assert abs(moved) > abs(hours * _HOUR) - 1800, "the step had no effect"

        running = await _submit(stub, slow_request(600.0))
        await _wait_until_swept(stub)
        for generation in kept:
            request = pb.GetGenerationRequest(generation_id=generation.id, inline_outputs=True)
            assert (await stub.GetGeneration(request)).generation.outputs[0].data
        await _cancel(stub, running)


async def test_no_measured_time_has_a_step_of_the_clock_in_it(
    start_server: StartServer, connect: Connect, clock: WallClock
) -> None:
    """Neither the wait nor the work, in no metric."""
    server = start_server(engines=_NARROW, environment=clock.environment())
    async with connect(server) as stub:
        first = await _submit(stub, slow_request(5.0))
        second = await _submit(stub, image_request())
        await _wait_until_running(stub, first)
        clock.step(10 * _HOUR)
        for ended in await wait_ended(stub, [first.id, second.id]):
            assert ended.state == State.STATE_SUCCEEDED
            assert ended.end_time.seconds - ended.create_time.seconds > 9 * _HOUR
    measured = _measured_seconds(server)
    assert {"atelier_generation_seconds_sum", "atelier_queue_seconds_sum"} <= measured.keys()
    assert all(0 <= seconds < 9 * _HOUR for seconds in measured.values())
    assert measured["atelier_generation_seconds_sum"] >= 5.0
    assert measured["atelier_queue_seconds_sum"] > 0


async def test_a_clock_that_is_set_back_over_a_restart_changes_no_order(
    start_server: StartServer, connect: Connect, clock: WallClock
) -> None:
    """What was accepted before the restart is started first, and listed as older."""
    clock.step(2 * _HOUR)
    server = start_server(engines=_NARROW, environment=clock.environment())
    async with connect(server) as stub:
        before = [await _submit(stub, slow_request(600.0)) for _ in range(2)]
    server.kill()
    clock.step(0)
    server = start_server(engines=_NARROW, environment=clock.environment())
    async with connect(server) as stub:
        after = await _submit(stub, slow_request(600.0))
        assert after.create_time.seconds < before[0].create_time.seconds, "the step had no effect"
        page = await stub.ListGenerations(pb.ListGenerationsRequest())
        made = [generation.id for generation in (*before, after)]
        assert [generation.id for generation in page.generations] == made[::-1]
        for generation in (*before, after):
            await _wait_until_running(stub, generation)
            await _cancel(stub, generation)


async def test_what_a_daily_budget_does_not_permit_waits_for_the_next_day(
    start_server: StartServer, connect: Connect, clock: WallClock
) -> None:
    """Also what was accepted before it was spent; what runs counts with its expected cost."""
    dear = {"type": "sketch", "concurrency": 2, "price_per_image": 1, "daily_budget": 1}
    server = start_server(engines={"sketch": dear}, environment=clock.environment())
    async with connect(server) as stub:
        first = await _submit(stub, slow_request(1.0, 2))
        later = [await _submit(stub, slow_request(1.0, 2)) for _ in range(2)]
        await wait_ended(stub, [first.id])
        assert (await refusal(stub.Generate(image_request()))).reason == "BUDGET_EXCEEDED"
        for generation in later:
            request = pb.GetGenerationRequest(generation_id=generation.id)
            assert (await stub.GetGeneration(request)).generation.state == State.STATE_QUEUED
        clock.step(24 * _HOUR)
        await wait_ended(stub, [later[0].id])
        request = pb.GetGenerationRequest(generation_id=later[1].id)
        assert (await stub.GetGeneration(request)).generation.state == State.STATE_QUEUED
        clock.step(48 * _HOUR)
        made = await wait_ended(stub, [later[1].id])
    assert [one.receipt.cost.amount for one in made] == [1, 1, 1]
    assert [len(one.receipt.attempts) for one in made] == [1, 1, 1]


def _measured_seconds(server: RunningServer) -> dict[str, float]:
    """The sum of each histogram of times, over all labels."""
    sums: dict[str, float] = {}
    for (name, _), value in samples(server).items():
        if name.endswith("_seconds_sum"):
            sums[name] = sums.get(name, 0.0) + value
    return sums


async def _submit(stub: Stub, request: pb.GenerateRequest) -> Generation:
    return (await stub.Generate(on_acceptance(request))).generation


async def _cancel(stub: Stub, generation: Generation) -> None:
    await stub.CancelGeneration(pb.CancelGenerationRequest(generation_id=generation.id))


async def _wait_until_running(stub: Stub, generation: Generation) -> None:
    async def is_running() -> bool:
        request = pb.GetGenerationRequest(generation_id=generation.id)
        return (await stub.GetGeneration(request)).generation.state == State.STATE_RUNNING

    await wait_until(is_running)


async def _wait_until_swept(stub: Stub) -> None:
    """Wait for a sweep: it is what ends a generation that has no time and no free worker."""
    late = await _submit(stub, image_request(timeout_seconds=10.0))
    await wait_ended(stub, [late.id])
