"""Tunes the allocator of the C library for large messages, and gives unused memory back to the system."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_THRESHOLD_BYTES = 256 * 2**20


def tune_malloc() -> None:
    """Raise glibc's thresholds, so that large buffers are reused instead of returned to the kernel.

    This gives 1.5 to 2 times the calls a second at 1 MiB, for up to 128 MiB more resident memory. It
    has no effect with other C libraries.
    """
    mallopt = getattr(_load_library(), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _THRESHOLD_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _THRESHOLD_BYTES)


def trim_malloc() -> None:
    """Return unused memory to the kernel, which glibc would keep because of those thresholds.

    It keeps up to 64 MiB for each thread that has decoded. Blocks for some milliseconds. No effect with other C
    libraries.
    """
    malloc_trim = getattr(_load_library(), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))


@cache
def _load_library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform.startswith("linux") else None
