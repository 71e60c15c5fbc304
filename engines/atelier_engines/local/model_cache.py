"""The cache of loaded models: each is loaded once, shared, and offloaded when others need the memory."""

from __future__ import annotations

import itertools
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, cast

import torch

from atelier_engines.errors import OutOfMemoryError
from atelier_engines.local import devices, errors
from atelier_engines.local.weights.digests import FileIdentity
from atelier_engines.model_use import MODEL_USE, Outcome

_log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

_RAM = torch.device("cpu")


class Resident(Protocol):
    """What the cache holds: a module, an inference session, a compiled engine. One thread at a time."""

    @property
    def nbytes(self) -> int:
        """Bytes of the device's memory that it takes while it is there; looked at again after each use."""

    def offload(self, *, keep_in_ram: bool) -> None:
        """Free the device's memory.

        Args:
            keep_in_ram: whether there is main memory for the weights; otherwise they are to be
                dropped, and read again when they are restored.
        """

    def restore(self, device: torch.device) -> None:
        """Be on the device again, as before `offload`.

        Raises:
            Exception: whatever reading the weights raises; it is still offloaded then.
        """


ResidentT = TypeVar("ResidentT", bound=Resident)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheKey:
    """What tells residents apart: engines that ask for the same key share one."""

    files: tuple[FileIdentity, ...]
    """The files of its weights."""
    kind: str
    """What it is; the name of its class, for instance."""
    dtype: torch.dtype
    """The type that it computes in."""
    device: torch.device
    """The device that it runs on."""
    form: str = ""
    """Anything else that distinguishes it: memory format, options, an engine that changes it."""


@dataclass(slots=True, eq=False)
class _Entry:
    """A resident, loaded or about to be."""

    key: CacheKey
    load: Callable[[], Resident]
    size: int
    """Bytes on the device; an estimate until it is loaded."""
    resident: Resident | None = None
    on_device: bool = False
    leases: int = 0
    pins: int = 0
    """Leases for which it must stay on the device."""
    tasks: int = 0
    """Running tasks that use it now and then."""
    last_used: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while it runs or moves: one thread at a time."""


class Lease(Generic[ResidentT]):
    """One engine's right to use a resident. Everything but `run` is for one thread at a time."""

    def __init__(
        self, cache: ModelCache, entry: _Entry, *, keep_loaded: bool, offload_after_use: bool
    ) -> None:
        self._cache = cache
        self._entry = entry
        self._keep_loaded = keep_loaded
        self._offload_after_use = offload_after_use

    @property
    def key(self) -> CacheKey:
        """The key that it was acquired with."""
        return self._entry.key

    @property
    def resident(self) -> ResidentT:
        """Always the same object; it is on its device only inside `run`."""
        return cast("ResidentT", self._entry.resident)

    @property
    def on_device(self) -> bool:
        """Whether it is on its device now."""
        return self._entry.on_device

    def run(self, work: Callable[[], ResultT]) -> ResultT:
        """What `work()` returns, with the resident on its device and nobody else using it.

        If memory runs out and there are residents that no task needs, those are offloaded and the
        work is done once more, so `work` must change nothing before it ends. It must not call `run`
        of another lease.

        Raises:
            OutOfMemoryError: there is no memory for the resident.
            Exception: whatever `work` raises.
        """
        with self._cache.exclusive(self._entry):
            try:
                return self._cache.retry_after_eviction(self._entry, work)
            finally:
                if self._offload_after_use:
                    self._cache.offload(self._entry, keep_in_ram=True)

    @contextmanager
    def task(self) -> Iterator[None]:
        """While this lasts, residents of idle engines are offloaded before this one."""
        self._cache.adjust(self._entry, tasks=1)
        try:
            yield
        finally:
            self._cache.adjust(self._entry, tasks=-1)

    def release(self) -> None:
        """Give it back; when the last lease is released, its memory is free."""
        self._cache.adjust(self._entry, leases=-1, pins=-int(self._keep_loaded))


class ModelCache:
    """Residents by key, and a memory budget for each device.

    Each resident has a lock, held while it runs or moves. A thread holds at most one of them, and
    while it waits for memory its own resident takes none: so whoever runs comes to an end, and the
    one that waits goes on.
    """

    def __init__(self) -> None:
        self._entries: dict[CacheKey, _Entry] = {}
        self._budgets: dict[torch.device, int | None] = {}
        self._changed = threading.Condition()
        self._clock = itertools.count(1)

    @property
    def keys(self) -> frozenset[CacheKey]:
        """The keys of what is leased now."""
        with self._changed:
            return frozenset(self._entries)

    def set_budget(self, device: torch.device, limit: int | None) -> None:
        """From now on residents on that device may take so many bytes; None for no limit."""
        with self._changed:
            self._budgets[device] = limit

    def available_bytes(self, device: torch.device) -> int:
        """Bytes for residents if all go that are allowed to."""
        with self._changed:
            evictable = [entry for entry in self._list_on(device) if not entry.pins]
            return self._count_free(device) + sum(entry.size for entry in evictable)

    def acquire(
        self,
        key: CacheKey,
        load: Callable[[], ResidentT],
        *,
        size: int,
        keep_loaded: bool = False,
        offload_after_use: bool = False,
    ) -> Lease[ResidentT]:
        """A lease of the resident of that key, which is loaded if nobody has it.

        Args:
            key: what it is.
            load: returns it, on its device.
            size: bytes that it will take.
            keep_loaded: whether it must stay on the device.
            offload_after_use: whether it leaves a CUDA device after each use.

        Raises:
            OutOfMemoryError: there is no memory for it; nothing was loaded.
            Exception: whatever `load` raises.
        """
        with self._changed:
            entry = self._entries.setdefault(key, _Entry(key=key, load=load, size=size))
            entry.leases += 1
        try:
            with self.exclusive(entry):
                pass
        except BaseException:
            self.adjust(entry, leases=-1)
            raise
        self.adjust(entry, pins=int(keep_loaded))
        offload = offload_after_use and key.device.type == "cuda" and not keep_loaded
        return Lease(self, entry, keep_loaded=keep_loaded, offload_after_use=offload)

    def adjust(self, entry: _Entry, *, leases: int = 0, pins: int = 0, tasks: int = 0) -> None:
        """Add to what an entry counts; without a lease it is removed."""
        with self._changed:
            entry.leases += leases
            entry.pins += pins
            entry.tasks += tasks
            if not entry.leases and self._entries.get(entry.key) is entry:
                del self._entries[entry.key]
                entry.on_device, entry.resident = False, None
                self._measure(entry.key.device)
            self._changed.notify_all()

    @contextmanager
    def exclusive(self, entry: _Entry) -> Iterator[None]:
        """Have the resident on its device, and keep all others from using it."""
        try:
            with entry.lock:
                entry.last_used = next(self._clock)
                if entry.on_device:
                    MODEL_USE.count(str(entry.key.device), "hit")
                else:
                    self._load_to_device(entry)
                try:
                    yield
                finally:
                    if entry.resident is not None:
                        entry.size = entry.resident.nbytes
        finally:
            with self._changed:
                self._changed.notify_all()

    def retry_after_eviction(self, entry: _Entry, work: Callable[[], ResultT]) -> ResultT:
        """What `work()` returns; if memory runs out, idle residents are offloaded and it is retried."""
        try:
            return work()
        except Exception as error:
            if not errors.is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)  # they hold what there was no memory for
            if not self._evict_idle(entry):
                raise
        return work()

    def offload(self, entry: _Entry, *, keep_in_ram: bool) -> None:
        """Take a resident from its device; its lock is held."""
        if entry.resident is None:
            return
        entry.resident.offload(keep_in_ram=keep_in_ram)
        entry.on_device = False
        _empty_cache(entry.key.device)
        self._measure(entry.key.device)

    def _load_to_device(self, entry: _Entry) -> None:
        """Have a resident on its device; its lock is held."""
        self._reserve(entry)
        outcome: Outcome = "loaded" if entry.resident is None else "restored"
        try:
            if entry.resident is None:
                entry.resident = entry.load()
                entry.size = entry.resident.nbytes
            else:
                entry.resident.restore(entry.key.device)
        except BaseException:
            entry.on_device = False
            raise
        MODEL_USE.count(str(entry.key.device), outcome)
        self._measure(entry.key.device)

    def _measure(self, device: torch.device) -> None:
        with self._changed:
            MODEL_USE.set_size(str(device), sum(entry.size for entry in self._list_on(device)))

    def _reserve(self, entry: _Entry) -> None:
        """Offload others until the entry fits, and count it as being on its device.

        Raises:
            OutOfMemoryError: it does not fit beside what must stay, or beside other programs.
        """
        device = entry.key.device
        with self._changed:
            while entry.size > self._count_free(device):
                if self._evict_one(entry):
                    continue
                if not any(
                    other.lock.locked() and not other.pins for other in self._list_on(device)
                ):
                    raise OutOfMemoryError(
                        f"{entry.key.kind} does not fit into the memory of {device}: it needs "
                        f"{entry.size} bytes, and {self._count_free(device)} are available"
                    )
                # One that may go is in use; it is looked at again when its user is done.
                self._changed.wait()
            entry.on_device = True

    def _count_free(self, device: torch.device) -> int:
        """Bytes that one more resident may take."""
        limit = self._budgets.get(device)
        available = devices.available(device)
        if limit is None:
            return available
        return min(available, limit - sum(entry.size for entry in self._list_on(device)))

    def _list_on(self, device: torch.device) -> list[_Entry]:
        return [
            entry
            for entry in self._entries.values()
            if entry.key.device == device and entry.on_device
        ]

    def _evict_one(self, requester: _Entry, *, idle_only: bool = False) -> bool:
        """Offload the least recently used one, those that no task needs first; False if none can go."""
        found = [
            entry
            for entry in self._list_on(requester.key.device)
            if entry is not requester and not entry.pins and not (idle_only and entry.tasks)
        ]
        for entry in sorted(found, key=lambda entry: (entry.tasks > 0, entry.last_used)):
            # Waiting for the lock could deadlock: its holder may be waiting for memory as well.
            if entry.lock.acquire(blocking=False):
                try:
                    self._evict(entry)
                finally:
                    entry.lock.release()
                return True
        return False

    def _evict_idle(self, requester: _Entry) -> bool:
        """Offload everything that no task needs; False if there was nothing."""
        with self._changed:
            count = 0
            while self._evict_one(requester, idle_only=True):
                count += 1
        _empty_cache(requester.key.device)
        return count > 0

    def _evict(self, entry: _Entry) -> None:
        """Offload to RAM where that is another memory with room, else drop. Both locks are held."""
        _log.info(
            "component_offloaded",
            extra={"component": entry.key.kind, "device": str(entry.key.device)},
        )
        if entry.tasks:
            _log.warning(
                "device_memory_contended",
                extra={
                    "device": str(entry.key.device),
                    "hint": "raise memory_budget, or run fewer engines on this device",
                },
            )
        MODEL_USE.count(str(entry.key.device), "evicted")
        on_card = entry.key.device.type == "cuda"
        self.offload(entry, keep_in_ram=on_card and devices.available(_RAM) > entry.size)


def _empty_cache(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


MODEL_CACHE = ModelCache()
"""The cache of this process."""
