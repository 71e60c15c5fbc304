"""CPU time of writing an output of 1 MiB and deleting it later, for several layouts on the same disk, in turns.

Ten files exist at a time, as in a server whose outputs expire. Each write is readable by the file's name when it
returns; none is synced, as none is in the server by default.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias

from atelier_server.artifacts.blobs.recycled_files import RecycledFiles
from bench.calls import OUTPUT_BYTES
from bench.figures import Figure, median

Layout: TypeAlias = "Callable[[str], None]"
"""Writes an output under a new name, and deletes the one that was written ten writes before."""

_ALIVE = 10
_ROUNDS = 15
_WRITES = 40


async def measure() -> list[Figure]:
    """Milliseconds of CPU for each output, and as a ratio to a new file."""
    with (
        tempfile.TemporaryDirectory(prefix="atelier-bench-", dir=Path.cwd()) as folder,
        ExitStack() as stack,
    ):
        layouts = {
            name: stack.enter_context(make(Path(folder) / str(number)))
            for number, (name, make) in enumerate(_LAYOUTS.items())
        }
        costs: dict[str, list[float]] = {name: [] for name in layouts}
        for number in range(_ROUNDS):
            for name, write in layouts.items():
                costs[name].append(_measure(write, number))
    new = median(costs["new file"][1:])
    figures = []
    for name, seconds in costs.items():
        cost = median(seconds[1:])  # the first fills the disk
        figures.append(Figure(name=name, value=cost * 1000, unit="ms"))
        figures.append(Figure(name=name, value=cost / new, unit="×"))
    return figures


def _measure(write: Layout, number: int) -> float:
    start = time.process_time()
    for index in range(_WRITES):
        write(f"output-{number}-{index}")
    return (time.process_time() - start) / _WRITES


@contextmanager
def _write_new(folder: Path) -> Iterator[Layout]:
    """A new file beside the output, renamed; deleted with unlink."""
    folder.mkdir()
    alive: deque[Path] = deque()

    def write(name: str) -> None:
        partial = folder / f"{name}.partial"
        partial.write_bytes(_DATA)
        partial.replace(folder / name)
        alive.append(folder / name)
        if len(alive) > _ALIVE:
            alive.popleft().unlink()

    yield write


@contextmanager
def _write_allocated(folder: Path) -> Iterator[Layout]:
    """A new file, whose blocks are allocated before it is written."""
    folder.mkdir()
    alive: deque[Path] = deque()

    def write(name: str) -> None:
        path = folder / name
        with path.open("xb", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, len(_DATA))
            file.write(_DATA)
        alive.append(path)
        if len(alive) > _ALIVE:
            alive.popleft().unlink()

    yield write


@contextmanager
def _write_recycled(folder: Path) -> Iterator[Layout]:
    """The file of a deleted output, as the server does it."""
    folder.mkdir()
    recycled = RecycledFiles(folder / "recycled")
    alive: deque[Path] = deque()

    def write(name: str) -> None:
        path = folder / name
        if not recycled.write(path, _DATA):
            path.write_bytes(_DATA)
        alive.append(path)
        if len(alive) > _ALIVE:
            recycled.take(alive.popleft())

    yield write


@contextmanager
def _write_segment(folder: Path) -> Iterator[Layout]:
    """Slots of one preallocated file; a deleted output's slot is used again."""
    folder.mkdir()
    with (folder / "segment").open("w+b", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, (_ALIVE + 1) * len(_DATA))
        slots = deque(range(_ALIVE + 1))

        def write(_name: str) -> None:
            os.pwrite(file.fileno(), _DATA, slots[0] * len(_DATA))
            slots.rotate(-1)

        yield write


@contextmanager
def _write_sqlite(folder: Path) -> Iterator[Layout]:
    """A row of an SQLite file, in WAL mode."""
    folder.mkdir()
    database = sqlite3.connect(folder / "outputs.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("CREATE TABLE outputs (name TEXT PRIMARY KEY, data BLOB)")
    alive: deque[str] = deque()

    def write(name: str) -> None:
        database.execute("INSERT INTO outputs VALUES (?, ?)", (name, _DATA))
        alive.append(name)
        if len(alive) > _ALIVE:
            database.execute("DELETE FROM outputs WHERE name = ?", (alive.popleft(),))

    yield write
    database.close()


_DATA = os.urandom(OUTPUT_BYTES)
_LAYOUTS: Mapping[str, Callable[[Path], AbstractContextManager[Layout]]] = {
    "new file": _write_new,
    "new file, allocated first": _write_allocated,
    "recycled file": _write_recycled,
    "slot of one file": _write_segment,
    "row of SQLite": _write_sqlite,
}
