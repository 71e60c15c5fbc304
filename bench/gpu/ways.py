"""The ways in which torch runs a model, as the engine does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch

from atelier_engines.diffusion.runtimes.compiled_blocks import CompiledBlocks, eagerly
from bench.gpu.networks import Networks

Way = Literal["eager", "channels last", "regions", "CUDA graphs"]

WAYS: tuple[Way, ...] = ("eager", "channels last", "regions", "CUDA graphs")
"""In the order in which they are measured; each has what the ones before it have."""

_SHAPES = 64
"""More than are measured: torch counts compiled graphs by the class of blocks."""

ResultT = TypeVar("ResultT")


def prepare(networks: Networks, way: Way) -> None:
    """Change the networks for one way; ways are prepared in the order of WAYS."""
    changed = (networks.unet, networks.controlnet)
    match way:
        case "eager" | "CUDA graphs":
            pass
        case "channels last":
            for module in (*changed, networks.vae):
                module.to(memory_format=torch.channels_last)
        case "regions":
            blocks = CompiledBlocks()
            for module in changed:
                blocks.prepare(module)


@contextmanager
def running(way: Way) -> Iterator[None]:
    """Have blocks compiled, or not, as the way says; new shapes are compiled when they are met first."""
    if way in ("eager", "channels last"):
        with eagerly():
            yield
        return
    torch.compiler.set_stance("default")
    with torch._dynamo.config.patch(recompile_limit=_SHAPES):  # noqa: SLF001  (torch names its settings so)
        yield


def capture(call: Callable[[], ResultT]) -> Callable[[], ResultT]:
    """A call as a CUDA graph, with the inputs that it has now; it returns the same tensors each time.

    Args:
        call: what is captured; it has run before, so that nothing is compiled or chosen in it.
    """
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        result = call()

    def replay() -> ResultT:
        graph.replay()
        return result

    return replay


def list_ways(names: Sequence[str]) -> tuple[Way, ...]:
    """Those of these names, in their order; all where there are none."""
    return tuple(way for way in WAYS if not names or way in names)
