"""A graph that ONNX Runtime runs on the CPU, as the model cache holds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from atelier_engines.diffusion.runtimes.graphs.graph import Graph
from atelier_engines.errors import EngineFailedError, EngineUnavailableError
from atelier_engines.local import cpu
from atelier_engines.local.errors import first_line
from atelier_engines.local.load_lock import LOAD_LOCK

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PROVIDER = "CPUExecutionProvider"


def require_installed() -> None:
    """Return if ONNX Runtime and what exports to it are installed.

    Raises:
        EngineUnavailableError: they are not.
    """
    try:
        import onnxruntime  # noqa: F401, PLC0415  (an extra)
        import onnxscript  # noqa: F401, PLC0415  (an extra)
    except ImportError as error:
        raise EngineUnavailableError(
            "the runtime onnx needs the extra `onnx`: pip install 'atelier-engines[onnx]'; "
            f"{error.name} is not installed"
        ) from error


class OnnxSession:
    """See Resident."""

    def __init__(self, graph: Graph, provide: Callable[[], Path]) -> None:
        """Open the file of a graph.

        Args:
            graph: its specification.
            provide: returns the file; called again to open one that was dropped.

        Raises:
            EngineUnavailableError: ONNX Runtime cannot open the file, or does not run it on the CPU as asked.
            Exception: whatever `provide` raises.
        """
        self.graph = graph
        self._provide = provide
        path = provide()
        with LOAD_LOCK:
            self._session: InferenceSession | None = _open(path)
        self._nbytes = sum(file.stat().st_size for file in path.parent.iterdir())

    @property
    def nbytes(self) -> int:
        """See Resident.nbytes."""
        return self._nbytes

    def offload(self, *, keep_in_ram: bool) -> None:
        """See Resident.offload; the file is what remains, since the session itself is in main memory."""
        if not keep_in_ram:
            self._session = None

    def restore(self, device: torch.device) -> None:
        """See Resident.restore; raises as `__init__`."""
        del device
        if self._session is None:
            path = self._provide()
            with LOAD_LOCK:
                self._session = _open(path)

    def run(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The outputs, in the graph's order.

        Args:
            inputs: by name; they are converted to the types of the specification.

        Raises:
            EngineFailedError: the session is offloaded.
            Exception: whatever ONNX Runtime raises.
        """
        if self._session is None:
            raise EngineFailedError(f"the {self.graph.name} is not in memory")
        feed = {
            one.name: inputs[one.name].to(one.dtype).contiguous().numpy()
            for one in self.graph.inputs
        }
        made = self._session.run(list(self.graph.outputs), feed)
        return tuple(torch.from_numpy(array) for array in made)


def _open(path: Path) -> InferenceSession:
    import onnxruntime  # noqa: PLC0415  (an extra)

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = cpu.thread_count()
    options.inter_op_num_threads = 1
    # Threads that wait busily take the cores that torch and other tasks need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=[PROVIDER])
    except Exception as error:  # its exceptions share no base
        raise EngineUnavailableError(
            f"ONNX Runtime cannot load {path}: {first_line(error)}"
        ) from error
    found = session.get_providers()
    if found[0] != PROVIDER:  # it takes another in silence
        raise EngineUnavailableError(f"ONNX Runtime runs on {found[0]} and not on {PROVIDER}")
    return session
