"""Turns what torch raises into the errors that engines may raise."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from atelier_engines.diffusion.wording import first_line
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    ModelMissingError,
    OutOfMemoryError,
)

_CPU_ALLOCATOR = "can't allocate memory"
"""Part of the RuntimeError of torch's CPU allocator, which has no class of its own."""


@contextmanager
def of_work(
    doing: str, device: torch.device, *, cure: Callable[[], str] = lambda: ""
) -> Iterator[None]:
    """Translate whatever work on a task raises.

    Args:
        doing: completes "… failed".
        device: where the work was done.
        cure: says what would have fitted, in words that end the message; asked when memory is free.

    Raises:
        OutOfMemoryError: the device's memory did not suffice; what was used is free again.
        EngineFailedError: anything else that is no EngineError.
    """
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            give_memory_back(error, device)
            advice = cure() or "ask for a smaller picture"
            raise OutOfMemoryError(
                f"{doing} does not fit into the memory of {device}; {advice}"
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
        if is_out_of_memory(error):
            give_memory_back(error, device)
            raise OutOfMemoryError(
                f"the model {model} does not fit into the memory of {device}"
            ) from error
        raise ModelMissingError(
            f"the model {model} cannot be loaded: {first_line(error)}"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says that a device's memory did not suffice."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and _CPU_ALLOCATOR in str(error)


def give_memory_back(error: Exception, device: torch.device) -> None:
    """Drop the tensors that the traceback's frames still hold, then torch's cache of them."""
    traceback.clear_frames(error.__traceback__)
    if device.type == "cuda":
        torch.cuda.empty_cache()
