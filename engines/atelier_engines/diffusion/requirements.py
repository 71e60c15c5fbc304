"""What the settings of a diffusion engine need of a machine. Imports no torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.runtimes.tensorrt import releases
from atelier_engines.diffusion.runtimes_config import BINDINGS, INSTALL, LIBRARY_NAMES
from atelier_engines.local.builds.store import find_directory
from atelier_engines.problem import Problem

_COMPILERS = ("g++", "clang++", "c++")
_ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def find_problems(config: DiffusionConfig) -> Iterator[Problem]:
    """What is missing here for an engine of that configuration; nothing is loaded."""
    if config.compile and not any(map(shutil.which, _COMPILERS)):
        yield Problem(
            text="compile needs a C++ compiler, and there is none",
            remedy="apt-get install g++, or set compile to false",
        )
    if "onnx" in config.runtimes.names:
        missing = [name for name in _ONNX_PACKAGES if find_spec(name) is None]
        if missing:
            yield Problem(
                text=f"the runtime onnx needs {', '.join(missing)}",
                remedy="pip install 'atelier-engines[onnx]'",
            )
    for name in LIBRARY_NAMES:
        if name in config.runtimes.names and find_spec(BINDINGS[name]) is None:
            yield Problem(
                text=f"the runtime {name} needs {BINDINGS[name]}, and there is none",
                remedy=INSTALL[name],
            )
    if "tensorrt" in config.runtimes.names and find_spec(BINDINGS["tensorrt"]) is not None:
        yield from _find_absent_libraries(find_directory(config.builds_directory))


def _find_absent_libraries(directory: Path) -> Iterator[Problem]:
    """The libraries that TensorRT's bindings link to, where they are nowhere."""
    if not releases.are_installed(directory):
        yield Problem(
            text="the runtime tensorrt needs the libraries of TensorRT beside its bindings, and there are none",
            remedy="atelier build --fetch-tensorrt REPOSITORY; docs/engines/tensorrt.md has more ways",
        )
