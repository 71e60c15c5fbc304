"""Devices and number formats by their configured names, and the memory of a device."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local.config import Precision

DTYPES: Mapping[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

_CONTROL_GROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_CUDA_SHARE = 0.9
"""Share of a card's memory for this process; drivers and other programs take the rest."""


def resolve_device(name: str) -> torch.device:
    """The device of that name; `auto` is the first CUDA device, else the CPU.

    Raises:
        EngineUnavailableError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EngineUnavailableError(
            f"device {name} does not exist: torch sees {torch.cuda.device_count()} CUDA devices"
        )
    return device


def resolve_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type to compute in; `auto` is float16 on CUDA, else float32.

    Most weights are published in float16, and bfloat16 is 8 times coarser.
    """
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return DTYPES[precision]


def budget(configured: float | None, device: torch.device) -> int | None:
    """Bytes that models may take on a device; None for no limit.

    Args:
        configured: up to 1 a fraction of the device's memory, above 1 bytes; None for the default.
        device: cpu or cuda.
    """
    if configured is None:
        return int(_CUDA_SHARE * total(device)) if device.type == "cuda" else None
    return int(configured * total(device)) if configured <= 1 else int(configured)


def total(device: torch.device) -> int:
    """Bytes of memory that a device has; of a CPU, those that this process may use."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return min(_limits(), default=sys.maxsize)


def synchronize(device: torch.device) -> None:
    """Return when the device has done everything that was queued on it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def available(device: torch.device) -> int:
    """Bytes of memory that can be allocated now; the largest number on systems that do not say."""
    if device.type == "cuda":
        free, installed = torch.cuda.mem_get_info(device)
        used = torch.cuda.memory_allocated(device)
        reserved = torch.cuda.memory_reserved(device) - used
        allowed = torch.cuda.get_per_process_memory_fraction(device) * installed
        return max(0, min(int(free + reserved), int(allowed) - used))
    return min(_remaining(), default=sys.maxsize)


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


def _remaining() -> Iterator[int]:
    """What the system, the container and the limit of the process each leave.

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
