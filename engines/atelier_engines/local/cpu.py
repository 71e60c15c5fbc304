"""How many CPU cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable(quota_file: Path = _QUOTA) -> int:
    """Cores left by the process's affinity and its container's quota, at least 1.

    A container with a quota still sees all cores of its machine. A library that starts a thread on
    each of them is stopped by the scheduler most of the time.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst: cpu.max holds "quota period", in
    microseconds, or "max period".
    """
    cores = _allowed()
    try:
        quota, period = quota_file.read_text("ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no control group, or no quota in it ("max")
        return cores


def _allowed() -> int:
    """Cores that the process may run on; all of them on systems that do not restrict it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads(wanted: int | None) -> int:
    """`wanted`, or half of the usable cores.

    Half, because threads of one operation wait for each other busily: as soon as anything else
    wants a core, one of them is late and the others burn time. Two threads on two busy cores were
    measured to be many times slower than one.
    """
    return wanted or max(1, usable() // 2)
