"""A graph that ONNX Runtime runs on the CPU, as the model cache holds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from atelier_engines.diffusion.loras.replacing import WeightedLora
from atelier_engines.diffusion.runtimes.graphs.graph import Graph
from atelier_engines.diffusion.runtimes.onnx import exported, opening
from atelier_engines.errors import EngineFailedError
from atelier_engines.local import devices
from atelier_engines.local.memory import trim_heap
from atelier_engines.local.peak_memory import PeakMemoryTracker

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_COPIES = 2
"""ONNX Runtime takes so many times the bytes of the weights: it packs those of convolutions and products anew, and
frees the others late."""

_CPU = torch.device("cpu")

LoraSetKey = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A session, and what must live as long."""

    session: InferenceSession
    tensors: Mapping[str, torch.Tensor]
    """Weights whose memory the session uses."""


class OnnxSession:
    """See Resident. With LoRAs it has a session for each set of them, and one for the original weights."""

    def __init__(
        self,
        graph: Graph,
        provide: Callable[[], Path],
        *,
        kept_sets: int = 1,
        keeps_memory: bool = False,
        create_empty: Callable[[], torch.nn.Module] | None = None,
    ) -> None:
        """Open the file of a graph.

        Args:
            graph: its specification.
            provide: returns the file; called again for each session.
            kept_sets: sets of LoRAs whose sessions are kept, where there is memory for them.
            keeps_memory: whether the memory of a run is kept for the next one, which saves a few percent of its time.
            create_empty: returns the network without numbers, by which the memory of a run is estimated; None where
                that is not needed.

        Raises:
            EngineUnavailableError: ONNX Runtime cannot open the file, or does not run it on the CPU as asked.
            MemoryError: there is no memory for it.
            Exception: whatever `provide` raises.
        """
        self.graph = graph
        self._kept_sets = kept_sets
        self._keeps_memory = keeps_memory
        self._create_empty = create_empty
        self._loras: tuple[WeightedLora, ...] = ()
        self._opened: dict[LoraSetKey, _Opened] = {}
        """By the set of LoRAs, the least recently used first."""
        self._is_offloaded = False
        self._provide = provide
        self._bytes_each = 0
        self._provide_session()

    @property
    def nbytes(self) -> int:
        """See Resident.nbytes; it grows with the sets of LoRAs."""
        return self._bytes_each * max(1, len(self._opened))

    def list_weights(self) -> frozenset[str]:
        """The names of the network's weights in the file; raises as `__init__`."""
        return exported.read_names(self._provide())

    def offload(self, *, keep_in_ram: bool) -> None:
        """See Resident.offload; the file is what remains, since the session itself is in main memory."""
        if not keep_in_ram:
            self._opened.clear()
            self._is_offloaded = True

    def restore(self, device: torch.device) -> None:
        """See Resident.restore; raises as `__init__`."""
        del device
        self._is_offloaded = False
        self._provide_session()

    def use(self, loras: Sequence[WeightedLora]) -> None:
        """See ReplaceableWeights.use."""
        self._loras = tuple(loras)

    def forget(self, adapter: str) -> None:
        """See ReplaceableWeights.forget."""
        for key in list(self._opened):
            if adapter in dict(key):
                del self._opened[key]

    def run(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The outputs, in the graph's order.

        Args:
            inputs: by name; they are converted to the types of the specification.

        Raises:
            EngineFailedError: the session is offloaded.
            MemoryError: there is no memory for what is computed, or for the weights of a set of LoRAs.
            Exception: whatever ONNX Runtime raises.
        """
        if self._is_offloaded:
            raise EngineFailedError(f"the {self.graph.name} is not in memory")
        if PeakMemoryTracker.is_entered():
            self._show_memory(inputs)
        session = self._provide_session()
        feed = {
            one.name: inputs[one.name].to(one.dtype).contiguous().numpy()
            for one in self.graph.inputs
        }
        with opening.translate_out_of_memory():
            made = session.run(
                list(self.graph.outputs),
                feed,
                opening.create_run_options(keeps_memory=self._keeps_memory),
            )
        if not self._keeps_memory:
            trim_heap()
        return tuple(torch.from_numpy(array) for array in made)

    def _show_memory(self, inputs: Mapping[str, torch.Tensor]) -> None:
        """Run the network on tensors without numbers: what torch would take is about what ONNX Runtime takes."""
        if self._create_empty is None:
            return
        with PeakMemoryTracker.pause():
            empty = self.graph.wrap(self._create_empty()).to(device="meta").eval()
        empty(*(inputs[one.name].to("meta", one.dtype) for one in self.graph.inputs))

    def _provide_session(self) -> InferenceSession:
        """The session for the LoRAs in use."""
        key = tuple((one.adapter, one.weight) for one in self._loras)
        found = self._opened.pop(key, None)
        if found is None:
            self._make_room(key)
            found = self._open()
        self._opened[key] = found
        return found.session

    def _open(self) -> _Opened:
        path = self._provide()
        self._bytes_each = _COPIES * sum(file.stat().st_size for file in path.parent.iterdir())
        if not self._loras:
            return _Opened(session=opening.open_file(path), tensors={})
        read = exported.read(path)
        tensors = {**read.tensors, **exported.merge(read.tensors, self._loras)}
        session = opening.open_structure(read.structure, tensors, named=str(path))
        return _Opened(session=session, tensors=tensors)

    def _make_room(self, wanted: LoraSetKey) -> None:
        """Close sessions of other sets of LoRAs: those that are too many, and all if there is no memory for another."""
        sets = [key for key in self._opened if key]
        kept = self._kept_sets - bool(wanted)
        if devices.available(_CPU) < self._bytes_each:
            kept = 0
        for key in sets[: max(0, len(sets) - kept)]:
            del self._opened[key]
