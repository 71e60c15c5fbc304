"""The libraries TensorRT and TensorRT for RTX, which have one interface under two names.

Without a driver TensorRT's Runtime ends the process at its exit, and its Builder cannot be made (10.15, 11.2); that of
TensorRT for RTX can (1.7). So torch is asked for a device first, wherever one is needed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from atelier_engines.diffusion.runtimes_config import INSTALL, LibraryName
from atelier_engines.errors import EngineUnavailableError

_log = logging.getLogger(__name__)

_KEPT_MESSAGES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """One of the libraries, imported."""

    name: LibraryName
    """Which one."""
    module: Any
    """Its Python bindings."""
    version: str
    """Their version; plans run with the one that they were built with alone."""
    logger: Any
    """Its ILogger, which it keeps for the whole process."""
    messages: deque[str]
    """Its last errors, in its own words."""

    @property
    def dtypes(self) -> Mapping[Any, torch.dtype]:
        """Torch's types by the library's, of what networks return."""
        names = self.module.DataType
        return {
            names.FLOAT: torch.float32,
            names.HALF: torch.float16,
            names.BF16: torch.bfloat16,
        }

    @property
    def last_error(self) -> str:
        """Its last error, for messages."""
        return self.messages[-1] if self.messages else f"{self.name} says no more"


@lru_cache
def load(name: LibraryName) -> Library:
    """The library of that name.

    Raises:
        EngineUnavailableError: it is not installed.
    """
    try:
        module = _import(name)
    except (ImportError, OSError) as error:  # OSError: what it links to is absent
        raise EngineUnavailableError(
            f"the runtime {name} is not installed: {INSTALL[name]}; {error}"
        ) from error
    messages: deque[str] = deque(maxlen=_KEPT_MESSAGES)
    return Library(
        name=name,
        module=module,
        version=module.__version__,
        logger=_create_logger(module, messages),
        messages=messages,
    )


def require_cuda(name: LibraryName) -> None:
    """Return if there is a CUDA device.

    Raises:
        EngineUnavailableError: there is none.
    """
    if not torch.cuda.is_available():
        raise EngineUnavailableError(
            f"the runtime {name} needs a CUDA device, and there is none: set runtime to torch or onnx"
        )


def _import(name: LibraryName) -> Any:  # noqa: ANN401 (bindings have no types)
    match name:
        case "tensorrt_rtx":
            import tensorrt_rtx_bindings  # noqa: PLC0415  (an extra)

            return tensorrt_rtx_bindings


def _create_logger(module: Any, messages: deque[str]) -> Any:  # noqa: ANN401 (bindings have no types)
    """What keeps the library's errors and logs them; warnings and less it says of what is as it should be."""

    class MessageLogger(module.ILogger):  # type: ignore[misc]  # bindings have no types
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:  # noqa: ANN401 (bindings have no types)
            if severity in (module.ILogger.ERROR, module.ILogger.INTERNAL_ERROR):
                messages.append(text.strip())
                _log.error("tensorrt_error", extra={"error": text.strip()})

    return MessageLogger()
