"""Turns what torch raises into the errors that engines may raise."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    ModelMissingError,
    OutOfMemoryError,
)

_CPU_ALLOCATOR = "can't allocate memory"
"""Part of the RuntimeError of torch's CPU allocator, which has no class of its own."""


@contextmanager
def of_work(doing: str, device: torch.device) -> Iterator[None]:
    """Translate whatever work on a task raises; `doing` completes "… failed".

    Raises:
        OutOfMemoryError: the device's memory did not suffice; what was used is free again.
        EngineFailedError: anything else that is no EngineError.
    """
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        if _is_out_of_memory(error):
            _give_memory_back(error, device)
            raise OutOfMemoryError(
                f"{doing} does not fit into the memory of {device}; ask for a smaller picture"
            ) from error
        raise EngineFailedError(f"{doing} failed on {device}: {first_line(error)}") from error


@contextmanager
def of_loading(model: str, device: torch.device) -> Iterator[None]:
    """Translate whatever loading and trying out a model raises.

    Raises:
        OutOfMemoryError: the device's memory did not suffice; what was used is free again.
        ModelMissingError: anything else that is no EngineError, and work that failed.
    """
    try:
        yield
    except EngineFailedError as error:
        raise ModelMissingError(f"the model {model} cannot be used: {error}") from error
    except EngineError:
        raise
    except Exception as error:
        if _is_out_of_memory(error):
            _give_memory_back(error, device)
            raise OutOfMemoryError(
                f"the model {model} does not fit into the memory of {device}"
            ) from error
        raise ModelMissingError(
            f"the model {model} cannot be loaded: {first_line(error)}"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and _CPU_ALLOCATOR in str(error)


def _give_memory_back(error: Exception, device: torch.device) -> None:
    """Drop the tensors that the traceback's frames still hold, then torch's cache of them."""
    traceback.clear_frames(error.__traceback__)
    if device.type == "cuda":
        torch.cuda.empty_cache()


def first_line(error: Exception) -> str:
    """What an exception says, without the listing that may follow, or else what it is called."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
