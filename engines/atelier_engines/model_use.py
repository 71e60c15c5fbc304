"""What the cache of models in this process has done: for metrics, without any model library."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["hit", "loaded", "restored", "evicted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUse:
    """What has happened on one device since the process began."""

    device: str
    """As PyTorch names it: cpu, cuda:0."""
    counts: Mapping[Outcome, int]
    """hit: a component was used that was there. loaded, restored: it was read from its files, or came back from main
    memory. evicted: it made room for another one.
    """
    nbytes: int
    """What is there now."""


class ModelUse:
    """Counts what happens, from any thread."""

    def __init__(self) -> None:
        """Nothing has happened."""
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[Outcome]] = {}
        self._sizes: dict[str, int] = {}

    def count(self, device: str, outcome: Outcome) -> None:
        """One more of these on the device."""
        with self._lock:
            self._counts.setdefault(device, Counter())[outcome] += 1

    def set_size(self, device: str, nbytes: int) -> None:
        """So many bytes are on the device now."""
        with self._lock:
            self._sizes[device] = nbytes

    def read(self) -> Sequence[DeviceUse]:
        """What has happened so far, on each device that was used."""
        with self._lock:
            return [
                DeviceUse(device=device, counts=dict(counts), nbytes=self._sizes.get(device, 0))
                for device, counts in self._counts.items()
            ]


MODEL_USE = ModelUse()
"""That of this process."""
