"""Networks are loaded once, shared, and put away when others need the room."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.errors import OutOfMemoryError
from atelier_engines.local import tensors
from atelier_engines.local.model_cache import SHELF, Key, Lease, Shelf
from atelier_engines.local.weights import digests, safetensors_header
from tests.engines.diffusion.asking import ask, pictures_of

CPU = torch.device("cpu")
SIDE = 1024
SIZE = SIDE * SIDE * 4
"""Bytes of a test's network."""


class Box:
    """A shelf with networks of one matrix each, and how often each of them was made."""

    def __init__(self, limit: int | None) -> None:
        self.shelf = Shelf()
        self.shelf.set_budget(CPU, limit)
        self.made: list[str] = []

    def lease(self, name: str, *, pin: bool = False) -> Lease:
        """The network of that name."""
        key = Key(files=(), kind=name, dtype=torch.float32, device=CPU)
        return self.shelf.lease(key, lambda: self._make(name), size=SIZE, pin=pin)

    def _make(self, name: str) -> torch.nn.Module:
        self.made.append(name)
        network = torch.nn.Linear(SIDE, SIDE, bias=False)
        torch.nn.init.constant_(network.weight, len(name))
        return network.requires_grad_(requires_grad=False)


def first_weight(lease: Lease) -> float:
    """A number of a network while it is on its device."""

    def read() -> float:
        (weight,) = lease.network.parameters()
        return float(weight[0, 0])

    return lease.run(read)


def refuse_once(then: Callable[[], int]) -> Callable[[], int]:
    """Work that asks for more memory than there can be, the first time."""
    tries = iter(range(2))

    def work() -> int:
        if next(tries) == 0:
            torch.empty(2**50)
        return then()

    return work


def test_whoever_asks_for_the_same_gets_the_same() -> None:
    """It is made once, and forgotten when the last one has given it back."""
    box = Box(None)
    one, other = box.lease("a"), box.lease("a")
    assert one.network is other.network
    assert box.made == ["a"]
    one.end()
    assert first_weight(other) == 1.0
    other.end()
    box.lease("a")
    assert box.made == ["a", "a"]


def test_what_was_used_longest_ago_goes_first() -> None:
    """And comes back, the same as before, when it is used again."""
    box = Box(2 * SIZE)
    first, second = box.lease("a"), box.lease("bb")
    network = first.network
    assert first_weight(first) == 1.0
    box.lease("ccc")
    assert first_weight(first) == 1.0
    assert box.made == ["a", "bb", "ccc"]
    assert first_weight(second) == 2.0
    assert box.made == ["a", "bb", "ccc", "bb"]
    assert first_weight(first) == 1.0
    assert first.network is network


def test_what_is_put_away_takes_no_memory() -> None:
    """Its tensors stay, and hold nothing."""
    box = Box(SIZE)
    first = box.lease("a")
    (weight,) = first.network.parameters()
    assert tensors.count_bytes(first.network) == SIZE
    box.lease("bb")
    assert tensors.count_bytes(first.network) == 0
    assert first_weight(first) == 1.0
    assert next(first.network.parameters()) is weight


def test_what_tasks_need_goes_last() -> None:
    """Even if it was used longer ago than what nobody needs."""
    box = Box(2 * SIZE)
    needed, idle = box.lease("a"), box.lease("bb")
    with needed.task():
        box.lease("ccc")
        assert first_weight(needed) == 1.0
        assert box.made == ["a", "bb", "ccc"]
        assert first_weight(idle) == 2.0
        assert box.made == ["a", "bb", "ccc", "bb"]
    box.lease("dddd")
    assert first_weight(needed) == 1.0
    assert box.made[-2:] == ["dddd", "a"]


def test_what_is_pinned_never_goes() -> None:
    """What does not fit beside it is refused before it is made."""
    box = Box(2 * SIZE - 1)
    pinned = box.lease("a", pin=True)
    with pytest.raises(OutOfMemoryError, match=f"needs {SIZE} bytes, and {SIZE - 1} are") as caught:
        box.lease("bb")
    assert "bb does not fit" in str(caught.value)
    assert box.made == ["a"]
    pinned.end()
    box.lease("bb")
    assert box.made == ["a", "bb"]


def test_one_thread_at_a_time_uses_a_network() -> None:
    """Two engines on their own threads may share it."""
    box = Box(None)
    one, other = box.lease("a"), box.lease("a")
    inside = threading.Lock()

    def work() -> bool:
        alone = inside.acquire(blocking=False)
        threading.Event().wait(0.001)
        if alone:
            inside.release()
        return alone

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit((one, other)[index % 2].run, work) for index in range(40)]
        assert all(run.result() for run in runs)


def test_whoever_needs_room_waits_for_what_runs() -> None:
    """Networks that do not fit together take turns, and both come to their end."""
    box = Box(SIZE)
    one, other = box.lease("a"), box.lease("bb")
    running, go_on = threading.Event(), threading.Event()

    def hold() -> float:
        running.set()
        go_on.wait(10)
        (weight,) = one.network.parameters()
        return float(weight[0, 0])

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(one.run, hold)
        assert running.wait(10)
        second = pool.submit(first_weight, other)
        assert not second.done()
        go_on.set()
        assert first.result(10) == 1.0
        assert second.result(10) == 2.0


def test_many_threads_and_little_room_come_to_an_end() -> None:
    """Nobody waits for ever, and nobody sees a network without its weights."""
    box = Box(2 * SIZE)
    leases = [box.lease("a" * length) for length in range(1, 5)]
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(first_weight, leases[turn % 4]) for turn in range(80)]
        values = [run.result(60) for run in found]
    assert values == [turn % 4 + 1.0 for turn in range(80)]


def test_work_without_memory_is_tried_again_after_idle_networks_went() -> None:
    """But only if there were any."""
    box = Box(None)
    one = box.lease("a")
    with pytest.raises(RuntimeError, match="memory"):
        one.run(refuse_once(lambda: 3))
    idle = box.lease("bb")
    with idle.task(), pytest.raises(RuntimeError, match="memory"):
        one.run(refuse_once(lambda: 3))
    assert tensors.count_bytes(idle.network) == SIZE
    assert one.run(refuse_once(lambda: 3)) == 3
    assert tensors.count_bytes(idle.network) == 0


def test_a_network_that_cannot_be_made_leaves_nothing() -> None:
    """The next one who asks tries again."""
    shelf = Shelf()
    key = Key(files=(), kind="a", dtype=torch.float32, device=CPU)

    def fail() -> torch.nn.Module:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        shelf.lease(key, fail, size=SIZE)
    assert not shelf.has(key)


def test_the_estimate_is_what_the_network_takes(model: Path) -> None:
    """Read from the files' headers, in the precision that is asked for."""
    files = tuple((model / "unet").glob("*.safetensors"))
    for dtype in (torch.float32, torch.bfloat16):
        unet = UNet2DConditionModel.from_pretrained(model / "unet", dtype=dtype)
        assert safetensors_header.estimate_bytes(files, dtype) == tensors.count_bytes(unet)


def test_a_file_that_was_changed_is_another(tmp_path: Path) -> None:
    """By its size or by its time."""
    path = tmp_path / "weights"
    path.write_bytes(b"1234")
    before = digests.identify(path)
    assert digests.identify(tmp_path / "." / "weights") == before
    os.utime(path, ns=(1, 1))
    assert digests.identify(path) != before


@pytest.fixture
def _no_budget() -> Iterator[None]:
    """Afterwards, what the tests before had is theirs again."""
    yield
    SHELF.set_budget(CPU, None)


def made(folder: Path, **settings: object) -> DiffusionEngine:
    """An engine on one CPU thread."""
    usual = {"model": str(folder), "device": "cpu", "threads": 1}
    return DiffusionEngine(DiffusionConfig.model_validate({**usual, **settings}))


def unet_of(engine: DiffusionEngine) -> torch.nn.Module:
    """Its denoiser."""
    assert engine._pipeline is not None
    unet: torch.nn.Module = engine._pipeline.family.runtime.unet  # type: ignore[attr-defined]
    return unet


def bytes_of(engine: DiffusionEngine) -> int:
    """What all its networks take."""
    assert engine._pipeline is not None
    return sum(
        tensors.count_bytes(lease.network) for lease in engine._pipeline.holdings._leases.values()
    )


async def test_engines_with_the_same_files_share_their_networks(
    model: Path, engine: DiffusionEngine
) -> None:
    """Working at once they make what each makes alone, and one stays when the other stops."""
    other = made(model)
    await other.start()
    assert unet_of(other) is unet_of(engine)
    tasks = [ask(seeds=(seed,), steps=4) for seed in range(4)]
    alone = [await pictures_of(engine, task) for task in tasks]
    owners = (engine, other, engine, other)
    together = await asyncio.gather(
        *(pictures_of(owner, task) for owner, task in zip(owners, tasks, strict=True))
    )
    await other.stop()
    for (one,), (same,) in zip(alone, together, strict=True):
        assert np.array_equal(one, same)
    (again,) = await pictures_of(engine, tasks[0])
    assert np.array_equal(again, alone[0][0])


async def test_engines_of_another_precision_share_nothing(
    model: Path, engine: DiffusionEngine
) -> None:
    """What computes in other numbers is another network."""
    other = made(model, precision="bfloat16")
    await other.start()
    assert unet_of(other) is not unet_of(engine)
    await other.stop()


@pytest.mark.usefixtures("_no_budget")
async def test_engines_that_do_not_fit_together_take_turns(model: Path, tmp_path: Path) -> None:
    """What was put away comes back from its files and makes the same pictures."""
    first = made(shutil.copytree(model, tmp_path / "1"))
    second_folder = shutil.copytree(model, tmp_path / "2")
    await first.start()
    (wanted,) = await pictures_of(first, ask())
    needed = bytes_of(first)
    second = made(second_folder, memory_budget=needed * 1.2)
    await second.start()
    assert tensors.count_bytes(unet_of(first)) == 0
    assert tensors.count_bytes(unet_of(second)) > 0
    (back,), (other,) = await asyncio.gather(pictures_of(first, ask()), pictures_of(second, ask()))
    assert np.array_equal(back, wanted)
    assert np.array_equal(other, wanted)
    await second.stop()
    await first.stop()


@pytest.mark.usefixtures("_no_budget")
async def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(
    model: Path, tmp_path: Path
) -> None:
    """The message names what is needed and what is there."""
    before = set(SHELF._entries)
    engine = made(shutil.copytree(model, tmp_path / "model"), memory_budget=100_000)
    with pytest.raises(OutOfMemoryError, match=r"needs \d{6,} bytes, and 100000 are available"):
        await engine.start()
    assert set(SHELF._entries) == before


@pytest.mark.usefixtures("_no_budget")
async def test_a_pinned_engine_keeps_its_networks(model: Path, tmp_path: Path) -> None:
    """Another one that needs their room does not start."""
    pinned = made(shutil.copytree(model, tmp_path / "1"), pin=True)
    await pinned.start()
    needed = bytes_of(pinned)
    other = made(shutil.copytree(model, tmp_path / "2"), memory_budget=needed * 1.5)
    with pytest.raises(OutOfMemoryError):
        await other.start()
    assert bytes_of(pinned) == needed
    await pinned.stop()
    await other.start()
    await other.stop()


async def test_the_last_engine_to_stop_clears_the_shelf(model: Path, tmp_path: Path) -> None:
    """A failed start leaves nothing either."""
    before = set(SHELF._entries)
    folder = shutil.copytree(model, tmp_path / "model")
    engine = made(folder)
    await engine.start()
    assert set(SHELF._entries) > before
    await engine.stop()
    assert set(SHELF._entries) == before
    (folder / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(Exception, match="scheduler_config"):
        await engine.start()
    assert set(SHELF._entries) == before
