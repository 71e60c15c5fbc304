"""Gives memory back that dropped models took."""

from __future__ import annotations

import gc


def free_memory() -> None:
    """Give the memory of dropped networks back, to the system or to other users of the GPU."""
    gc.collect()
    try:
        import torch  # noqa: PLC0415  (takes seconds)
    except ImportError:
        return
    torch.cuda.empty_cache()  # does nothing where CUDA was not used
