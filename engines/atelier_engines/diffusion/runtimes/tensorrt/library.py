"""The libraries TensorRT and TensorRT for RTX, which have one interface under two names.

Without a driver TensorRT's Runtime ends the process at its exit, and its Builder cannot be made (10.15, 11.2); that of
TensorRT for RTX can (1.7). So torch is asked for a device first, wherever one is needed.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from atelier_engines.diffusion.runtimes.tensorrt import releases
from atelier_engines.diffusion.runtimes_config import BINDINGS, INSTALL, LibraryName
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local.builds.store import HeldBuild

_log = logging.getLogger(__name__)

_KEPT_MESSAGES = 8

_LOADING = threading.Lock()
_loaded: dict[LibraryName, Library] = {}
"""A process can load one of each."""


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
    held: HeldBuild | None = None
    """The files that were loaded, which nobody removes meanwhile; None where a package has them."""

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


def load(name: LibraryName, directory: Path) -> Library:
    """The library of that name, loaded once in a process.

    Args:
        name: which one.
        directory: of builds, where `atelier build --fetch-tensorrt` puts the libraries.

    Raises:
        EngineUnavailableError: it is not installed, or what was fetched of it has been changed.
    """
    with _LOADING:
        if name not in _loaded:
            _loaded[name] = _load(name, directory)
        return _loaded[name]


def get_version(name: LibraryName) -> str:
    """The version of a library that is loaded."""
    return _loaded[name].version


def _load(name: LibraryName, directory: Path) -> Library:
    held = None
    try:
        if name == "tensorrt" and not releases.are_packaged():
            held = releases.open_fetched(directory)
        module = import_module(BINDINGS[name])
        if name == "tensorrt":
            releases.require_equal_versions(module.__version__)
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
        held=held,
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
