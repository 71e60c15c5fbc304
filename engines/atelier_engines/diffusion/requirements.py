"""What the settings of a diffusion engine need of a machine. Imports no torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.runtimes_config import INSTALL, LIBRARY_NAMES
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
        if name in config.runtimes.names and find_spec(f"{name}_bindings") is None:
            yield Problem(
                text=f"the runtime {name} needs {name}_bindings, and there is none",
                remedy=INSTALL[name],
            )
