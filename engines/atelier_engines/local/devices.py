"""How much memory a device has, and how much of it is left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

_CONTROL_GROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_SHARE = 0.9
"""Of a card, for networks and work together; drivers and other programs take the rest."""


def budget(configured: float | None, device: torch.device) -> int | None:
    """Bytes that networks may take on a device; None for no limit.

    Args:
        configured: up to 1 a fraction of the device's memory, above 1 bytes; None for the default.
        device: cpu or cuda.
    """
    if configured is None:
        return int(_SHARE * total(device)) if device.type == "cuda" else None
    return int(configured * total(device)) if configured <= 1 else int(configured)


def total(device: torch.device) -> int:
    """Bytes that the device has; of a CPU, those that this process may use."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return min(_limits(), default=sys.maxsize)


def available(device: torch.device) -> int:
    """Bytes that can be had now; on systems that do not say, all that can be addressed."""
    if device.type == "cuda":
        free, there = torch.cuda.mem_get_info(device)
        used = torch.cuda.memory_allocated(device)
        kept = torch.cuda.memory_reserved(device) - used
        allowed = torch.cuda.get_per_process_memory_fraction(device) * there
        return max(0, min(int(free + kept), int(allowed) - used))
    return min(_left(), default=sys.maxsize)


def _limits() -> Iterator[int]:
    memory = _fields(_PROC / "meminfo")
    if "MemTotal" in memory:
        yield memory["MemTotal"] * 1024
    limit = _number(_CONTROL_GROUP / "memory.max")
    if limit is not None:
        yield limit
    address_space = _address_space()
    if address_space is not None:
        yield address_space


def _left() -> Iterator[int]:
    """What the system, the container and the process's own limit each leave.

    Source: Linux, Documentation/filesystems/proc.rst (MemAvailable; statm counts pages) and
    Documentation/admin-guide/cgroup-v2.rst (memory.max; inactive_file can be had back at once).
    """
    memory = _fields(_PROC / "meminfo")
    if "MemAvailable" in memory:
        yield memory["MemAvailable"] * 1024
    limit, used = (_number(_CONTROL_GROUP / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        cached = _fields(_CONTROL_GROUP / "memory.stat").get("inactive_file", 0)
        yield max(0, limit - used + cached)
    address_space = _address_space()
    status = _fields(_PROC / "self" / "status")
    if address_space is not None and "VmSize" in status:
        yield max(0, address_space - status["VmSize"] * 1024)


def _fields(path: Path) -> dict[str, int]:
    """The numbers of lines like `MemTotal:  16 kB` or `anon 4096`; empty where there is no file."""
    try:
        lines = path.read_text("ascii").splitlines()
    except OSError:
        return {}
    words = (line.replace(":", " ").split() for line in lines)
    return {word[0]: int(word[1]) for word in words if len(word) > 1 and word[1].isdigit()}


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none ("max")."""
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _address_space() -> int | None:
    """Bytes of addresses that the process may use; None for no limit."""
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415  (Windows has none)

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft
