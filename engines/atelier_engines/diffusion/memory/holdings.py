"""The networks of one engine: where each of them is taken from, how it is made, where it rests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.loras import config_loras
from atelier_engines.errors import OutOfMemoryError
from atelier_engines.local import devices
from atelier_engines.local.model_cache import SHELF, Key, Lease, Shelf
from atelier_engines.local.weights import digests
from atelier_engines.task import ResourceProfile

NetworkT = TypeVar("NetworkT", bound=torch.nn.Module)
ResultT = TypeVar("ResultT")

_engines = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Want(Generic[NetworkT]):
    """A network that an engine wants."""

    name: str
    """What it is called in messages: unet, vae …"""
    kind: type[NetworkT]
    """Its class."""
    files: tuple[Path, ...]
    """Of its weights."""
    prefix: str = ""
    """How the names of its tensors in them begin."""
    size: int
    """Bytes that it will take."""
    dtype: torch.dtype
    """What it computes in."""
    load: Callable[[], NetworkT]
    """Makes it, on its device, in evaluation mode and without gradients."""
    denoises: bool = False
    """Whether it runs at every step."""
    adapts: bool = False
    """Whether LoRAs change it; an engine that has any shares it with nobody."""


class Holdings:
    """What an engine has taken from the shelf. Used by the engine's thread alone."""

    def __init__(
        self, config: DiffusionConfig, device: torch.device, *, shelf: Shelf = SHELF
    ) -> None:
        """Take networks for an engine of that configuration; the device's budget is set to its."""
        self._config = config
        if device.type == "cuda" and device.index is None:  # one device under one name
            device = torch.device("cuda", torch.cuda.current_device())
        self._device = device
        self._shelf = shelf
        self._engine = next(_engines)
        self._leases: dict[int, Lease] = {}
        shelf.set_budget(device, devices.budget(config.memory_budget, device))

    @property
    def device(self) -> torch.device:
        """Where they run."""
        return self._device

    @contextmanager
    def until_failure(self) -> Iterator[None]:
        """Give everything back if this ends in an exception."""
        try:
            yield
        except BaseException:
            self.end()
            raise

    def check(self, wants: Sequence[Want[Any]]) -> None:
        """Return if all of these could be loaded; nothing is.

        Raises:
            OutOfMemoryError: they could not, and the text says how much is missing.
        """
        new = [want for want in wants if not self._shelf.has(self._key(want))]
        if not new:
            return
        on_card, saves = self._device.type == "cuda", self._config.profile is ResourceProfile.MEMORY
        largest = max(new, key=lambda want: want.size)
        needed = largest.size if on_card and saves else sum(want.size for want in new)
        room = self._shelf.room(self._device)
        if needed > room:
            what = largest.name if on_card and saves else "all networks"
            cure = "" if saves or not on_card else ", or try the profile memory"
            raise OutOfMemoryError(
                f"the model does not fit into the memory of {self._device}: {what} of it needs "
                f"{needed} bytes, and {room} are available; choose a smaller model or precision, "
                f"or raise memory_budget{cure}"
            )

    def take(self, want: Want[NetworkT]) -> NetworkT:
        """The network, loaded or shared.

        Raises:
            OutOfMemoryError: there is no room for it; nothing was loaded.
            Exception: whatever `want.load` raises.
        """
        lease = self._shelf.lease(
            self._key(want),
            lambda: self._formed(want),
            size=want.size,
            pin=self._config.pin,
            rests=self._config.profile is ResourceProfile.MEMORY and not want.denoises,
        )
        network = cast("NetworkT", lease.network)
        self._leases[id(network)] = lease
        return network

    def run(self, network: torch.nn.Module, work: Callable[[], ResultT]) -> ResultT:
        """See Lease.run; a network that was not taken here is simply run."""
        lease = self._leases.get(id(network))
        return work() if lease is None else lease.run(work)

    @contextmanager
    def task(self) -> Iterator[None]:
        """While this lasts, networks of idle engines are put away before these."""
        with ExitStack() as tasks:
            for lease in self._leases.values():
                tasks.enter_context(lease.task())
            yield

    def end(self) -> None:
        """Give all of them back."""
        while self._leases:
            self._leases.popitem()[1].end()

    def _key(self, want: Want[Any]) -> Key:
        form = [want.prefix]
        if self._lies_by_channels(want):
            form.append("channels last")
        if self._is_compiled(want):
            form.append("compiled")
        if want.adapts and config_loras.names(self._config):
            form.append(f"engine {self._engine}")
        return Key(
            files=tuple(digests.identify(path) for path in want.files),
            kind=want.kind.__name__,
            dtype=want.dtype,
            device=self._device,
            form=", ".join(form),
        )

    def _formed(self, want: Want[NetworkT]) -> NetworkT:
        network = want.load()
        if self._lies_by_channels(want):
            network.to(memory_format=torch.channels_last)
        if self._is_compiled(want):
            # Of diffusers' models; the blocks that repeat are compiled once for all of them.
            cast("Any", network).compile_repeated_blocks(fullgraph=True)
        return network

    def _lies_by_channels(self, want: Want[Any]) -> bool:
        """Convolutions on CUDA are faster so, and on a CPU their last bits would change."""
        fast = self._config.profile is ResourceProfile.SPEED
        return want.denoises and fast and self._device.type == "cuda"

    def _is_compiled(self, want: Want[Any]) -> bool:
        return want.denoises and self._config.compile and self._device.type == "cuda"
