"""The networks of this process: loaded once, shared, and put away when others need the room."""

from __future__ import annotations

import itertools
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

import torch

from atelier_engines.errors import OutOfMemoryError
from atelier_engines.local import devices, errors, tensors
from atelier_engines.local.load_lock import LOAD_LOCK
from atelier_engines.local.weights.digests import FileIdentity

_log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

_RAM = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What makes two networks one: engines that ask for the same get the same."""

    files: tuple[FileIdentity, ...]
    """Of its weights."""
    kind: str
    """Its class."""
    dtype: torch.dtype
    """What it computes in."""
    device: torch.device
    """Where it runs."""
    form: str = ""
    """Whatever else was done to it: how its weights lie, an engine that changes it for itself."""


class _Place(Enum):
    """Where an entry's weights are."""

    DEVICE = "device"
    RAM = "ram"
    NOWHERE = "nowhere"
    """They are to be read again."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A network, or what will be one."""

    key: Key
    load: Callable[[], torch.nn.Module]
    size: int
    """Bytes; an estimate until it is loaded."""
    network: torch.nn.Module | None = None
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    """Those it was loaded with."""
    place: _Place = _Place.NOWHERE
    leases: int = 0
    pins: int = 0
    """Leases for which it must stay on the device."""
    tasks: int = 0
    """Tasks at work that need it now and then."""
    last_used: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held while it runs or moves: one thread at a time."""


class Lease:
    """One engine's right to use a network. Everything but `run` is for one thread at a time."""

    def __init__(self, shelf: Shelf, entry: _Entry, *, pin: bool, rests: bool) -> None:
        self._shelf = shelf
        self._entry = entry
        self._pin = pin
        self._rests = rests

    @property
    def network(self) -> torch.nn.Module:
        """Always the same; its weights are on the device only inside `run`."""
        if self._entry.network is None:
            raise ValueError("a lease is given when the network is loaded")
        return self._entry.network

    def run(self, work: Callable[[], ResultT]) -> ResultT:
        """What `work()` returns, with the network on its device and nobody else using it.

        If memory does not suffice and networks that no task needs can go, it is tried once more, so
        `work` must change nothing before it is done. It must not call `run` of another lease.

        Raises:
            OutOfMemoryError: there is no room for the network.
            Exception: whatever `work` raises.
        """
        with self._shelf.turn(self._entry):
            try:
                return self._shelf.twice(self._entry, work)
            finally:
                if self._rests:
                    self._shelf.put_away(self._entry)

    @contextmanager
    def task(self) -> Iterator[None]:
        """While this lasts, networks of idle engines are put away before this one."""
        self._shelf.count(self._entry, tasks=1)
        try:
            yield
        finally:
            self._shelf.count(self._entry, tasks=-1)

    def end(self) -> None:
        """Give it back; when the last lease ends, its memory is free."""
        self._shelf.count(self._entry, leases=-1, pins=-int(self._pin))


class Shelf:
    """Networks by key, and a budget for each device.

    Each network has a lock, held while it runs or moves. A thread holds at most one of them, and
    while it waits for room its own network takes none: so whoever runs comes to an end, and the
    one that waits goes on.
    """

    def __init__(self) -> None:
        self._entries: dict[Key, _Entry] = {}
        self._budgets: dict[torch.device, int | None] = {}
        self._changed = threading.Condition()
        self._clock = itertools.count(1)

    def set_budget(self, device: torch.device, limit: int | None) -> None:
        """From now on networks on that device may take so many bytes; None for no limit."""
        with self._changed:
            self._budgets[device] = limit

    def room(self, device: torch.device) -> int:
        """Bytes that networks may have if all that are not pinned go."""
        with self._changed:
            there = [entry for entry in self._on(device) if not entry.pins]
            return self._free(device) + sum(entry.size for entry in there)

    def has(self, key: Key) -> bool:
        """Whether an engine has that network."""
        with self._changed:
            return key in self._entries

    def lease(
        self,
        key: Key,
        load: Callable[[], torch.nn.Module],
        *,
        size: int,
        pin: bool = False,
        rests: bool = False,
    ) -> Lease:
        """The network of that key, loaded if nobody has it.

        Args:
            key: what it is.
            load: makes it, on its device; called again when it was put away altogether.
            size: bytes that it will take.
            pin: whether it must stay on the device.
            rests: whether it leaves a CUDA device after each use.

        Raises:
            OutOfMemoryError: there is no room for it; nothing was loaded.
            Exception: whatever `load` raises.
        """
        with self._changed:
            entry = self._entries.setdefault(key, _Entry(key=key, load=load, size=size))
            entry.leases += 1
        try:
            with self.turn(entry):
                pass
        except BaseException:
            self.count(entry, leases=-1)
            raise
        self.count(entry, pins=int(pin))
        on_card = key.device.type == "cuda"
        return Lease(self, entry, pin=pin, rests=rests and on_card and not pin)

    def count(self, entry: _Entry, *, leases: int = 0, pins: int = 0, tasks: int = 0) -> None:
        """Add to what an entry counts; without a lease it is forgotten."""
        with self._changed:
            entry.leases += leases
            entry.pins += pins
            entry.tasks += tasks
            if not entry.leases and self._entries.get(entry.key) is entry:
                del self._entries[entry.key]
                entry.place, entry.network, entry.tensors = _Place.NOWHERE, None, {}
            self._changed.notify_all()

    @contextmanager
    def turn(self, entry: _Entry) -> Iterator[None]:
        """Have the network on its device, alone."""
        try:
            with entry.turn:
                entry.last_used = next(self._clock)
                if entry.place is not _Place.DEVICE:
                    self._bring(entry)
                yield
        finally:
            with self._changed:
                self._changed.notify_all()

    def twice(self, entry: _Entry, work: Callable[[], ResultT]) -> ResultT:
        """What `work()` returns, tried again after idle networks went, if it was out of memory."""
        try:
            return work()
        except Exception as error:
            if not errors.is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold what there was no room for
            if not self._evict_idle(entry):
                raise
        return work()

    def put_away(self, entry: _Entry) -> None:
        """Move a network to RAM; its lock is held."""
        if entry.network is None:
            return
        tensors.move(entry.network, _RAM)
        entry.place = _Place.RAM
        _give_back(entry.key.device)

    def _bring(self, entry: _Entry) -> None:
        """Have a network on its device; its lock is held."""
        before = self._make_room(entry)
        try:
            if entry.network is None:
                entry.network = self._load(entry)
                entry.tensors = dict(tensors.named_tensors(entry.network))
                entry.size = tensors.count_bytes(entry.network)
            elif before is _Place.RAM:
                tensors.move(entry.network, entry.key.device)
            else:
                tensors.refill(entry.tensors, self._load(entry))
        except BaseException:
            entry.place = before
            raise

    def _load(self, entry: _Entry) -> torch.nn.Module:
        with LOAD_LOCK:
            return entry.load()

    def _make_room(self, entry: _Entry) -> _Place:
        """Put others away until the entry fits, count it as there, and return where it was.

        Raises:
            OutOfMemoryError: it does not fit beside what is pinned, or beside other programs.
        """
        device = entry.key.device
        with self._changed:
            while entry.size > self._free(device):
                if self._evict_one(entry):
                    continue
                if not any(other.turn.locked() and not other.pins for other in self._on(device)):
                    raise OutOfMemoryError(
                        f"{entry.key.kind} does not fit into the memory of {device}: it needs "
                        f"{entry.size} bytes, and {self._free(device)} are available"
                    )
                self._changed.wait()
            before, entry.place = entry.place, _Place.DEVICE
            return before

    def _free(self, device: torch.device) -> int:
        """Bytes that one more network may take."""
        limit = self._budgets.get(device)
        there = devices.available(device)
        if limit is None:
            return there
        return min(there, limit - sum(entry.size for entry in self._on(device)))

    def _on(self, device: torch.device) -> list[_Entry]:
        return [
            entry
            for entry in self._entries.values()
            if entry.key.device == device and entry.place is _Place.DEVICE
        ]

    def _evict_one(self, needing: _Entry, *, idle: bool = False) -> bool:
        """Put away what no task needs and was used longest ago, else what one needs later."""
        found = [
            entry
            for entry in self._on(needing.key.device)
            if entry is not needing and not entry.pins and not (idle and entry.tasks)
        ]
        for entry in sorted(found, key=lambda entry: (entry.tasks > 0, entry.last_used)):
            if entry.turn.acquire(blocking=False):
                try:
                    self._evict(entry)
                finally:
                    entry.turn.release()
                return True
        return False

    def _evict_idle(self, needing: _Entry) -> bool:
        """Put away everything that no task needs; whether there was anything."""
        with self._changed:
            count = 0
            while self._evict_one(needing, idle=True):
                count += 1
        _give_back(needing.key.device)
        return count > 0

    def _evict(self, entry: _Entry) -> None:
        """From CUDA to RAM where there is some; else it is read again later. Both locks are held."""
        _log.info("%s leaves %s for others", entry.key.kind, entry.key.device)
        if entry.tasks:
            _log.warning(
                "networks of tasks at work take turns in the memory of %s; raise memory_budget, "
                "or run fewer engines on it",
                entry.key.device,
            )
        if entry.key.device.type == "cuda" and devices.available(_RAM) > entry.size:
            self.put_away(entry)
        else:
            tensors.release(entry.tensors)
            entry.place = _Place.NOWHERE


def _give_back(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


SHELF = Shelf()
"""That of this process."""
