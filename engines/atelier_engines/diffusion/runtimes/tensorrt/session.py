"""A plan that TensorRT runs on a CUDA device, as the model cache holds it.

Written without a GPU at hand: no run of it has been seen yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from atelier_engines.diffusion.runtimes.graphs.graph import Graph
from atelier_engines.diffusion.runtimes.tensorrt import profiles
from atelier_engines.diffusion.runtimes.tensorrt.library import Library, require_cuda
from atelier_engines.diffusion.runtimes.tensorrt.profiles import Profile
from atelier_engines.errors import EngineFailedError, EngineUnavailableError, InvalidTaskError


class TensorrtSession:
    """See Resident."""

    def __init__(
        self,
        library: Library,
        graph: Graph,
        provide: Callable[[], Path],
        *,
        accepted: Sequence[Profile],
        device: torch.device,
    ) -> None:
        """Open a plan.

        Args:
            library: what runs it.
            graph: its specification.
            provide: returns the file of the plan; called again whenever it is opened.
            accepted: the profiles that it was built with, in their order.
            device: where it runs.

        Raises:
            EngineUnavailableError: there is no CUDA device, or the library cannot open the plan.
            Exception: whatever `provide` raises.
        """
        require_cuda(library.name)
        self.graph = graph
        self._library = library
        self._provide = provide
        self._accepted = accepted
        self._device = device
        self._engine: Any = None
        self._contexts: dict[int, Any] = {}
        """By the place of their profile. Their memory is what torch lends them for each run."""
        self._nbytes = 0
        self._open()

    @property
    def nbytes(self) -> int:
        """See Resident.nbytes: its weights, about; what a run takes comes from torch's allocator."""
        return self._nbytes

    def offload(self, *, keep_in_ram: bool) -> None:
        """See Resident.offload; the file is what remains."""
        del keep_in_ram
        self._contexts.clear()
        self._engine = None

    def restore(self, device: torch.device) -> None:
        """See Resident.restore; raises as `__init__`."""
        del device
        self._open()

    def run(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The outputs on the device, in the graph's order; they are computed when the current stream gets there.

        Args:
            inputs: by name, on any device; they are converted to the types of the specification.

        Raises:
            InvalidTaskError: no profile accepts inputs of these shapes.
            EngineFailedError: it is offloaded, or TensorRT refuses to run it.
            torch.OutOfMemoryError: there is no memory for what is computed.
        """
        if self._engine is None:
            raise EngineFailedError(f"the {self.graph.name} is not in memory")
        with torch.cuda.device(self._device):
            placed = {
                one.name: inputs[one.name]
                .to(self._device, one.dtype, non_blocking=True)
                .contiguous()
                for one in self.graph.inputs
            }
            context = self._choose_context(placed)
            return self._enqueue(context, placed)

    def _enqueue(
        self,
        context: Any,  # noqa: ANN401 (bindings have no types)
        placed: Mapping[str, torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        """Order a run on the current stream, and do not wait for it.

        Memory is given back to torch at once: its allocator reuses it in the order of the stream alone, so plans
        that run after one another share it.
        """
        for name, tensor in placed.items():
            context.set_input_shape(name, tuple(tensor.shape))
            context.set_tensor_address(name, tensor.data_ptr())
        outputs = [self._create_output(context, name) for name in self.graph.outputs]
        for name, tensor in zip(self.graph.outputs, outputs, strict=True):
            context.set_tensor_address(name, tensor.data_ptr())
        needed = max(1, context.update_device_memory_size_for_shapes())
        scratch = torch.empty(needed, dtype=torch.uint8, device=self._device)
        context.set_device_memory(scratch.data_ptr(), needed)
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise EngineFailedError(
                f"{self._library.name} cannot run the {self.graph.name}: {self._library.last_error}"
            )
        return tuple(outputs)

    def _choose_context(self, placed: Mapping[str, torch.Tensor]) -> Any:  # noqa: ANN401 (bindings have no types)
        shapes = {name: tuple(tensor.shape) for name, tensor in placed.items()}
        place = profiles.find(self.graph, self._accepted, shapes)
        if place is None:
            raise InvalidTaskError(
                "width",
                f"the {self.graph.name} was built for other shapes than {shapes}: ask for a size within max_side and "
                "for a shorter prompt, or raise max_side and max_batch and build again",
            )
        if place not in self._contexts:
            self._contexts[place] = self._create_context(place)
        return self._contexts[place]

    def _create_context(self, place: int) -> Any:  # noqa: ANN401 (bindings have no types)
        strategy = self._library.module.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(strategy)
        stream = torch.cuda.current_stream()
        if context is None or not context.set_optimization_profile_async(place, stream.cuda_stream):
            raise EngineFailedError(
                f"{self._library.name} cannot prepare the {self.graph.name}: {self._library.last_error}"
            )
        return context

    def _create_output(self, context: Any, name: str) -> torch.Tensor:  # noqa: ANN401 (bindings have no types)
        dtypes = self._library.dtypes
        dtype = dtypes[self._engine.get_tensor_dtype(name)]
        return torch.empty(tuple(context.get_tensor_shape(name)), dtype=dtype, device=self._device)

    def _open(self) -> None:
        path = self._provide()
        with torch.cuda.device(self._device):
            runtime = self._library.module.Runtime(self._library.logger)
            self._engine = runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise EngineUnavailableError(
                f"{self._library.name} cannot open {path}: {self._library.last_error}"
            )
        self._nbytes = path.stat().st_size
