"""Compiles the blocks that repeat in a network with torch, for shapes that are known; others run as they are.

Those are the transformer blocks, as diffusers says of its UNets (`_repeated_blocks`). Of ControlNets, which have the
same, it says nothing (0.42), so its own `compile_repeated_blocks` refuses them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
from diffusers.models.attention import BasicTransformerBlock

Shape = tuple[int, int, int, int]
"""Rows, height and width in latent pixels, and tokens: what the shapes of all tensors in a network follow from."""


def find_shape(latents: torch.Tensor, prompt_embeds: torch.Tensor) -> Shape:
    """The shape of a run with such inputs."""
    rows, _, height, width = latents.shape
    return rows, height, width, prompt_embeds.shape[1]


Backend = str | Callable[..., Any]

ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)

_STANCE = threading.RLock()
_SERVING: Literal["eager_on_recompile"] = "eager_on_recompile"
_GRAPHS_PER_SHAPE = 16
"""More than the kinds of blocks in any network; torch counts compiled graphs by the blocks' class."""


class CompiledBlocks:
    """Which shapes the blocks of an engine's networks are compiled for, and how often they met others."""

    def __init__(self, *, backend: Backend = "inductor") -> None:
        """Know no shape yet.

        Args:
            backend: what compiles, as torch.compile takes it.
        """
        self._backend = backend
        self._shapes: set[Shape] = set()
        self._eager_runs = 0

    def prepare(self, module: ModuleT) -> ModuleT:
        """The same network; its repeated blocks are compiled when it runs inside `compiling`."""
        for block in module.modules():
            if isinstance(block, BasicTransformerBlock):
                block.compile(fullgraph=True, dynamic=False, backend=self._backend)
        return module

    @contextmanager
    def compiling(self, shape: Shape) -> Iterator[None]:
        """Compile what runs inside, and know the shape from then on. No other thread compiles meanwhile.

        Raises:
            Exception: whatever the compiler raises.
        """
        with (
            _STANCE,
            torch._dynamo.config.patch(  # noqa: SLF001  (torch names its settings so)
                recompile_limit=_GRAPHS_PER_SHAPE * (len(self._shapes) + 1)
            ),
        ):
            torch.compiler.set_stance("default")
            try:
                yield
            finally:
                # For the whole process: whatever is not compiled by then runs eagerly, and nobody waits for it.
                torch.compiler.set_stance(_SERVING)
        self._shapes.add(shape)

    def count(self, shape: Shape, module: torch.nn.Module) -> None:
        """Count a run of a network that is not compiled: its shape is unknown, or LoRAs have changed its blocks."""
        if shape not in self._shapes or getattr(module, "peft_config", None):
            self._eager_runs += 1

    def take_eager_runs(self) -> int:
        """How many runs were counted since the last call."""
        taken, self._eager_runs = self._eager_runs, 0
        return taken


@contextmanager
def eagerly() -> Iterator[None]:
    """Run everything inside as it is, compiled or not."""
    with _STANCE, torch.compiler.set_stance("force_eager"):
        yield
