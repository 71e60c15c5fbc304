"""Opens sessions of ONNX Runtime on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local import cpu
from atelier_engines.local.errors import first_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, RunOptions, SessionOptions

PROVIDER = "CPUExecutionProvider"

_EXPORTERS = ("onnx", "onnxscript")
"""Not imported before something is exported: they take 30 MB."""

_SHARING = threading.Lock()
_GROW_AS_NEEDED = 1
"""ONNX Runtime's name for it is kSameAsRequested; what is usual doubles an arena each time."""
_SILENT = 4
_OUT_OF_MEMORY = (
    "Failed to allocate memory",
    "bad_alloc",
    "bad allocation",
    "storage size overflowed",
)
"""Parts of the messages of its exceptions, which have no class for this: the arena's, C++'s on Linux and on Windows,
and that of a size beyond all memory."""


def require_installed() -> None:
    """Return if ONNX Runtime and what exports to it are installed.

    Raises:
        EngineUnavailableError: they are not.
    """
    missing = next((name for name in _EXPORTERS if find_spec(name) is None), None)
    try:
        import onnxruntime  # noqa: F401, PLC0415  (an extra)
    except ImportError as error:
        missing = error.name or "onnxruntime"
    if missing is not None:
        raise EngineUnavailableError(
            "the runtime onnx needs the extra `onnx`: pip install 'atelier-engines[onnx]'; "
            f"{missing} is not installed"
        )


def open_file(path: Path) -> InferenceSession:
    """A session of the graph in a file, with the weights in it.

    Raises:
        EngineUnavailableError: the file is damaged, or ONNX Runtime does not run it on the CPU as asked.
        MemoryError: there is no memory for it.
    """
    return _open(path, _create_options(), named=str(path))


def open_structure(
    structure: bytes, tensors: Mapping[str, torch.Tensor], *, named: str
) -> InferenceSession:
    """A session of a graph with these weights, whose memory it uses as long as it lives.

    Args:
        structure: see ExportedWeights.
        tensors: all weights by name, on the CPU.
        named: what the graph is, for messages.

    Raises:
        EngineUnavailableError: as `open_file`.
        MemoryError: as `open_file`.
    """
    from onnxruntime import OrtValue  # noqa: PLC0415  (an extra)

    options = _create_options()
    values = [OrtValue.ortvalue_from_numpy(tensor.numpy()) for tensor in tensors.values()]
    options.add_external_initializers(list(tensors), values)
    return _open(structure, options, named=named)


def create_run_options(*, keeps_memory: bool) -> RunOptions:
    """How a session is run; `keeps_memory` is that of OnnxSession."""
    import onnxruntime  # noqa: PLC0415  (an extra)

    options = onnxruntime.RunOptions()
    if not keeps_memory:
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


@contextmanager
def translate_out_of_memory() -> Iterator[None]:
    """Translate what ONNX Runtime raises.

    Raises:
        MemoryError: it ran out of memory.
        Exception: whatever else it raises.
    """
    try:
        yield
    except Exception as error:  # its exceptions share no base
        if any(part in str(error) for part in _OUT_OF_MEMORY):
            raise MemoryError(f"ONNX Runtime ran out of memory: {first_line(error)}") from error
        raise


@cache
def _share_memory() -> None:
    """Let all sessions of this process share one arena, which grows by what is needed.

    They run one after the other, and arenas of their own would each keep the most that one of them needed.
    """
    import onnxruntime  # noqa: PLC0415  (an extra)

    kinds = onnxruntime.OrtAllocatorType, onnxruntime.OrtMemType
    where = onnxruntime.OrtMemoryInfo("Cpu", kinds[0].ORT_ARENA_ALLOCATOR, 0, kinds[1].DEFAULT)
    settings = onnxruntime.OrtArenaCfg({"arena_extend_strategy": _GROW_AS_NEEDED})
    onnxruntime.create_and_register_allocator(where, settings)


def _create_options() -> SessionOptions:
    import onnxruntime  # noqa: PLC0415  (an extra)

    with _SHARING:
        _share_memory()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = cpu.thread_count()
    options.inter_op_num_threads = 1
    # Threads that wait busily take the cores that torch and other tasks need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = _SILENT  # what it would log it raises as well
    return options


def _open(source: Path | bytes, options: SessionOptions, *, named: str) -> InferenceSession:
    import onnxruntime  # noqa: PLC0415  (an extra)

    try:
        with translate_out_of_memory():
            session = onnxruntime.InferenceSession(source, options, providers=[PROVIDER])
    except MemoryError:
        raise
    except Exception as error:  # its exceptions share no base
        raise EngineUnavailableError(
            f"ONNX Runtime cannot load {named}: {first_line(error)}"
        ) from error
    found = session.get_providers()
    if found[0] != PROVIDER:  # it takes another in silence
        raise EngineUnavailableError(f"ONNX Runtime runs on {found[0]} and not on {PROVIDER}")
    return session
