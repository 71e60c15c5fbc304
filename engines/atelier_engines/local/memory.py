"""Gives memory back that dropped models took."""

from __future__ import annotations

import ctypes
import gc
import sys


def free_memory() -> None:
    """Give the memory of dropped networks back, to the system or to other users of the GPU."""
    gc.collect()
    trim_heap()
    try:
        import torch  # noqa: PLC0415  (takes seconds)
    except ImportError:
        return
    torch.cuda.empty_cache()  # does nothing where CUDA was not used


def trim_heap() -> None:
    """Give back what the C library keeps of freed memory; does nothing where it is not glibc.

    Source: Linux, malloc_trim(3).
    """
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
