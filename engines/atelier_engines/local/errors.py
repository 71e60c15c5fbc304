"""Translates what torch raises into the errors that engines may raise."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    ModelMissingError,
    OutOfMemoryError,
)

if TYPE_CHECKING:
    from pathlib import Path

    import torch

_CPU_ALLOCATOR = "can't allocate memory"
"""Part of the RuntimeError of torch's CPU allocator, which has no class of its own."""


@contextmanager
def translate_inference(
    work: str, device: torch.device, *, hint: Callable[[], str] = lambda: ""
) -> Iterator[None]:
    """Translate what is raised while the device works on a task.

    Args:
        work: what is being done; completes "… failed".
        device: where it is done.
        hint: what to ask for instead, at the end of the message; called when memory is free again.

    Raises:
        OutOfMemoryError: the device ran out of memory; what the work used is free again.
        EngineFailedError: any other exception that is not an EngineError.
    """
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            release_memory(error, device)
            advice = hint() or "reduce the size of the request"
            raise OutOfMemoryError(
                f"{work} does not fit into the memory of {device}; {advice}"
            ) from error
        raise EngineFailedError(f"{work} failed on {device}: {first_line(error)}") from error


@contextmanager
def translate_loading(model: str, device: torch.device) -> Iterator[None]:
    """Translate what is raised while a model is loaded and warmed up.

    Raises:
        OutOfMemoryError: the device ran out of memory; what was loaded is free again.
        ModelMissingError: any other exception that is not an EngineError, and failed inference.
    """
    try:
        yield
    except EngineFailedError as error:
        raise ModelMissingError(f"the model {model} cannot be used: {error}") from error
    except EngineError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            release_memory(error, device)
            raise OutOfMemoryError(
                f"the model {model} does not fit into the memory of {device}"
            ) from error
        raise ModelMissingError(
            f"the model {model} cannot be loaded: {first_line(error)}"
        ) from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says that a device ran out of memory."""
    import torch  # noqa: PLC0415  (takes seconds; whatever runs out of memory has loaded it)

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and _CPU_ALLOCATOR in str(error)


def release_memory(error: Exception, device: torch.device) -> None:
    """Release the tensors that the traceback's frames hold, then torch's cache of free memory."""
    import torch  # noqa: PLC0415  (see is_out_of_memory)

    traceback.clear_frames(error.__traceback__)
    if device.type == "cuda":
        torch.cuda.empty_cache()


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or its class name where the message is empty."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def describe_unreadable(error: Exception, path: Path) -> str:
    """Why a file cannot be read, for callers: without the directory, which is the operator's."""
    return first_line(error).replace(str(path), path.name)
