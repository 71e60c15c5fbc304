"""The CPU cores that this process may use, and the threads that one operation uses."""

from __future__ import annotations

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")

_configured_threads: int | None = None


def usable_cores(quota_file: Path = _QUOTA) -> int:
    """Cores left by the process's affinity and its container's quota, at least 1.

    A container with a quota still sees all cores of its machine. A library that starts a thread on
    each of them is stopped by the scheduler most of the time.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst: cpu.max holds "quota period", in
    microseconds, or "max period".
    """
    cores = _allowed_cores()
    try:
        quota, period = quota_file.read_text("ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no control group, or no quota in it ("max")
        return cores


def configure_threads(count: int | None) -> None:
    """Set how many threads one operation of a local model uses, in all engines started from now on.

    It is a setting of the process because the libraries have one thread pool per process.

    Args:
        count: the number of threads; None for half of the usable cores.
    """
    global _configured_threads  # noqa: PLW0603 (one setting for one thread pool of the process)
    _configured_threads = count


def configured_threads() -> int | None:
    """What `configure_threads` was last called with."""
    return _configured_threads


def thread_count() -> int:
    """Threads that one operation uses: as configured, else half of the usable cores.

    Half, because threads of one operation wait for each other busily: as soon as anything else
    wants a core, one of them is late and the others burn time. Two threads on two busy cores were
    measured to be many times slower than one.
    """
    return _configured_threads or max(1, usable_cores() // 2)


def _allowed_cores() -> int:
    """Cores that the process may run on; all of them on systems that do not restrict it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
