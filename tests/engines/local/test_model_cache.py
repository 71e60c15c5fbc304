"""Models are loaded once, shared, and offloaded when others need the memory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("torch", reason="the extra `local` is not installed")

import torch

from atelier_engines.errors import OutOfMemoryError
from atelier_engines.local.model_cache import CacheKey, Lease, ModelCache
from atelier_engines.local.torch_module import TorchModule, count_bytes
from atelier_engines.model_use import MODEL_USE

CPU = torch.device("cpu")
SIDE = 1024
SIZE = SIDE * SIDE * 4
"""Bytes of a test's module."""

Module = TorchModule[torch.nn.Module]


class Box:
    """A cache of modules of one matrix each, and how often each of them was made."""

    def __init__(self, limit: int | None) -> None:
        self.cache = ModelCache()
        self.cache.set_budget(CPU, limit)
        self.made: list[str] = []

    def acquire(self, name: str, *, keep_loaded: bool = False) -> Lease[Module]:
        """The module of that name."""
        key = CacheKey(files=(), kind=name, dtype=torch.float32, device=CPU)
        return self.cache.acquire(
            key, lambda: Module(lambda: self._make(name)), size=SIZE, keep_loaded=keep_loaded
        )

    def _make(self, name: str) -> torch.nn.Module:
        self.made.append(name)
        network = torch.nn.Linear(SIDE, SIDE, bias=False)
        torch.nn.init.constant_(network.weight, len(name))
        return network.requires_grad_(requires_grad=False)


def first_weight(lease: Lease[Module]) -> float:
    """A number of a network while it is on its device."""

    def read() -> float:
        (weight,) = lease.resident.module.parameters()
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
    one, other = box.acquire("a"), box.acquire("a")
    assert one.resident is other.resident
    assert box.made == ["a"]
    one.release()
    assert first_weight(other) == 1.0
    other.release()
    box.acquire("a")
    assert box.made == ["a", "a"]


def test_what_was_used_longest_ago_goes_first() -> None:
    """And comes back, the same as before, when it is used again."""
    box = Box(2 * SIZE)
    first, second = box.acquire("a"), box.acquire("bb")
    module = first.resident.module
    assert first_weight(first) == 1.0
    box.acquire("ccc")
    assert first_weight(first) == 1.0
    assert box.made == ["a", "bb", "ccc"]
    assert first_weight(second) == 2.0
    assert box.made == ["a", "bb", "ccc", "bb"]
    assert first_weight(first) == 1.0
    assert first.resident.module is module


def count_uses() -> Counter[str]:
    """What all caches of this process have done on the CPU so far, and what is there now."""
    for use in MODEL_USE.read():
        if use.device == "cpu":
            counts: dict[str, int] = {str(name): number for name, number in use.counts.items()}
            return Counter({**counts, "bytes": use.nbytes})
    return Counter()


def test_uses_and_evictions_are_counted() -> None:
    """A component is loaded once, used where it is, makes room for another, and comes back."""
    box = Box(SIZE)
    before = count_uses()
    first = box.acquire("a")
    assert first_weight(first) == 1.0
    box.acquire("bb")
    assert first_weight(first) == 1.0
    after = count_uses()
    assert after["bytes"] == SIZE
    assert {name: after[name] - before[name] for name in after.keys() - {"bytes"}} == {
        "loaded": 2,
        "hit": 1,
        "evicted": 2,
        "restored": 1,
    }


def test_what_is_put_away_takes_no_memory() -> None:
    """Its tensors stay, and hold nothing."""
    box = Box(SIZE)
    first = box.acquire("a")
    (weight,) = first.resident.module.parameters()
    assert count_bytes(first.resident.module) == SIZE
    box.acquire("bb")
    assert count_bytes(first.resident.module) == 0
    assert first_weight(first) == 1.0
    assert next(first.resident.module.parameters()) is weight


def test_what_tasks_need_goes_last() -> None:
    """Even if it was used longer ago than what nobody needs."""
    box = Box(2 * SIZE)
    needed, idle = box.acquire("a"), box.acquire("bb")
    with needed.task():
        box.acquire("ccc")
        assert first_weight(needed) == 1.0
        assert box.made == ["a", "bb", "ccc"]
        assert first_weight(idle) == 2.0
        assert box.made == ["a", "bb", "ccc", "bb"]
    box.acquire("dddd")
    assert first_weight(needed) == 1.0
    assert box.made[-2:] == ["dddd", "a"]


def test_what_is_pinned_never_goes() -> None:
    """What does not fit beside it is refused before it is made."""
    box = Box(2 * SIZE - 1)
    pinned = box.acquire("a", keep_loaded=True)
    with pytest.raises(OutOfMemoryError, match=f"needs {SIZE} bytes, and {SIZE - 1} are") as caught:
        box.acquire("bb")
    assert "bb does not fit" in str(caught.value)
    assert box.made == ["a"]
    pinned.release()
    box.acquire("bb")
    assert box.made == ["a", "bb"]


def test_one_thread_at_a_time_uses_a_network() -> None:
    """Two engines on their own threads may share it."""
    box = Box(None)
    one, other = box.acquire("a"), box.acquire("a")
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
    one, other = box.acquire("a"), box.acquire("bb")
    running, go_on = threading.Event(), threading.Event()

    def hold() -> float:
        running.set()
        go_on.wait(10)
        (weight,) = one.resident.module.parameters()
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
    leases = [box.acquire("a" * length) for length in range(1, 5)]
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(first_weight, leases[turn % 4]) for turn in range(80)]
        values = [run.result(60) for run in found]
    assert values == [turn % 4 + 1.0 for turn in range(80)]


def test_work_without_memory_is_tried_again_after_idle_networks_went() -> None:
    """But only if there were any."""
    box = Box(None)
    one = box.acquire("a")
    with pytest.raises(RuntimeError, match="memory"):
        one.run(refuse_once(lambda: 3))
    idle = box.acquire("bb")
    with idle.task(), pytest.raises(RuntimeError, match="memory"):
        one.run(refuse_once(lambda: 3))
    assert count_bytes(idle.resident.module) == SIZE
    assert one.run(refuse_once(lambda: 3)) == 3
    assert count_bytes(idle.resident.module) == 0


def test_a_network_that_cannot_be_made_leaves_nothing() -> None:
    """The next one who asks tries again."""
    cache = ModelCache()
    key = CacheKey(files=(), kind="a", dtype=torch.float32, device=CPU)

    def fail() -> Module:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        cache.acquire(key, fail, size=SIZE)
    assert key not in cache.keys


class Session:
    """An inference session, as far as a cache knows it: no module, and no weights of torch's."""

    def __init__(self, log: list[str], *, broken: bool = False) -> None:
        self.log = log
        self.broken = broken
        log.append("load")

    @property
    def nbytes(self) -> int:
        """See Resident.nbytes."""
        return SIZE

    def offload(self, *, keep_in_ram: bool) -> None:
        """See Resident.offload."""
        self.log.append(f"offload, in RAM {keep_in_ram}")

    def restore(self, device: torch.device) -> None:
        """See Resident.restore."""
        if self.broken:
            raise OSError("the file is gone")
        self.log.append(f"restore to {device}")

    def infer(self) -> str:
        """Do something."""
        return "inferred"


def acquire_session(cache: ModelCache, session: Session, size: int = 1) -> Lease[Session]:
    """A lease of a session whose size is known when it is loaded."""
    key = CacheKey(files=(), kind="session", dtype=torch.float32, device=CPU, form=str(id(session)))
    return cache.acquire(key, lambda: session, size=size)


def test_a_resident_need_not_be_a_module() -> None:
    """It is told to leave its device and to come back, and counted as large as it says."""
    cache = ModelCache()
    cache.set_budget(CPU, SIZE)
    log: list[str] = []
    first = acquire_session(cache, Session(log))
    assert first.run(first.resident.infer) == "inferred"
    assert first.on_device
    second = acquire_session(cache, Session([]), size=SIZE)
    assert not first.on_device
    assert log == ["load", "offload, in RAM False"]
    assert first.run(first.resident.infer) == "inferred"
    assert log[2:] == ["restore to cpu"]
    assert not second.on_device


def test_a_resident_that_cannot_be_restored_is_offloaded_still() -> None:
    """Whoever uses it next tries again."""
    cache = ModelCache()
    cache.set_budget(CPU, SIZE)
    session = Session([])
    first = acquire_session(cache, session)
    acquire_session(cache, Session([]), size=SIZE)
    session.broken = True
    for _ in range(2):
        with pytest.raises(OSError, match="the file is gone"):
            first.run(session.infer)
        assert not first.on_device
    session.broken = False
    assert first.run(session.infer) == "inferred"
