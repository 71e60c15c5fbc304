"""The components of one engine: what it acquires from the model cache, and gives back at its end."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import torch

from atelier_engines.errors import OutOfMemoryError
from atelier_engines.local import devices
from atelier_engines.local.model_cache import MODEL_CACHE, CacheKey, Lease, ModelCache, ResidentT
from atelier_engines.local.weights import digests

_engine_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentSpec(Generic[ResidentT]):
    """A component that an engine needs: a text encoder, a denoiser, an autoencoder and so on."""

    name: str
    """Its name in messages: unet, vae and so on."""
    kind: str
    """What it is, the name of its class for instance."""
    files: tuple[Path, ...]
    """The files of its weights."""
    size: int
    """Bytes that it will take on its device."""
    dtype: torch.dtype
    """The type that it computes in."""
    load: Callable[[], ResidentT]
    """Returns it, on its device."""
    form: str = ""
    """What else tells it from others of the same files: memory format, options, a part of a file."""
    runs_every_step: bool = False
    """Whether it is needed at every step, and so stays on the device between two uses."""
    exclusive: bool = False
    """Whether the engine changes it, by LoRAs for instance, and so shares it with no other engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentStatus:
    """Where one component of an engine is now."""

    name: str
    """Its name: unet, vae and so on."""
    key: CacheKey
    """Engines with the same key share the component."""
    nbytes: int
    """Bytes that it takes on its device when it is there."""
    on_device: bool
    """Whether it is on its device now."""


class EngineComponents:
    """What an engine has acquired from the model cache. Used by the engine's thread alone."""

    def __init__(
        self,
        device: torch.device,
        *,
        memory_budget: float | None = None,
        keep_loaded: bool = False,
        save_memory: bool = False,
        cache: ModelCache = MODEL_CACHE,
    ) -> None:
        """Acquire components for one engine; the device's budget in the cache is set.

        Args:
            device: where they run.
            memory_budget: see `devices.budget`.
            keep_loaded: whether they stay on the device whatever else needs memory.
            save_memory: whether they leave a CUDA device after each use, unless every step needs them.
            cache: where they are acquired.
        """
        if device.type == "cuda" and device.index is None:  # one device under one name
            device = torch.device("cuda", torch.cuda.current_device())
        self._device = device
        self._keep_loaded = keep_loaded
        self._save_memory = save_memory
        self._cache = cache
        self._engine = next(_engine_numbers)
        self._leases: list[tuple[str, Lease[Any]]] = []
        cache.set_budget(device, devices.budget(memory_budget, device))

    @property
    def device(self) -> torch.device:
        """The device that they run on."""
        return self._device

    def status(self) -> tuple[ComponentStatus, ...]:
        """Each component, in the order in which they were acquired."""
        return tuple(
            ComponentStatus(
                name=name,
                key=lease.key,
                nbytes=lease.resident.nbytes,
                on_device=lease.on_device,
            )
            for name, lease in self._leases
        )

    @contextmanager
    def release_on_failure(self) -> Iterator[None]:
        """Give everything back if this ends in an exception."""
        try:
            yield
        except BaseException:
            self.release()
            raise

    def require_memory(self, specs: Sequence[ComponentSpec[Any]]) -> None:
        """Return if there is memory for all of these; nothing is loaded.

        Raises:
            OutOfMemoryError: there is not; the message says how much is needed.
        """
        known = self._cache.keys
        new = [spec for spec in specs if self._key(spec) not in known]
        if not new:
            return
        one_at_a_time = self._device.type == "cuda" and self._save_memory
        largest = max(new, key=lambda spec: spec.size)
        needed = largest.size if one_at_a_time else sum(spec.size for spec in new)
        available = self._cache.available_bytes(self._device)
        if needed > available:
            what = largest.name if one_at_a_time else "all its components"
            on_card = self._device.type == "cuda"
            hint = ", or set profile to memory" if on_card and not self._save_memory else ""
            raise OutOfMemoryError(
                f"the model does not fit into the memory of {self._device}: {what} needs "
                f"{needed} bytes, and {available} are available; choose a smaller model or "
                f"precision, or raise memory_budget{hint}"
            )

    def acquire(self, spec: ComponentSpec[ResidentT]) -> Lease[ResidentT]:
        """A lease of the component, loaded or shared; given back by `release`.

        Raises:
            OutOfMemoryError: there is no memory for it; nothing was loaded.
            Exception: whatever `spec.load` raises.
        """
        lease = self._cache.acquire(
            self._key(spec),
            spec.load,
            size=spec.size,
            keep_loaded=self._keep_loaded,
            offload_after_use=self._save_memory and not spec.runs_every_step,
        )
        self._leases.append((spec.name, lease))
        return lease

    @contextmanager
    def task(self) -> Iterator[None]:
        """While this lasts, components of idle engines are offloaded before these."""
        with ExitStack() as tasks:
            for _, lease in self._leases:
                tasks.enter_context(lease.task())
            yield

    def release(self) -> None:
        """Give all of them back."""
        while self._leases:
            self._leases.pop()[1].release()

    def _key(self, spec: ComponentSpec[Any]) -> CacheKey:
        owner = f"engine {self._engine}" if spec.exclusive else ""
        return CacheKey(
            files=tuple(digests.identify(path) for path in spec.files),
            kind=spec.kind,
            dtype=spec.dtype,
            device=self._device,
            form=", ".join(filter(None, (spec.form, owner))),
        )
