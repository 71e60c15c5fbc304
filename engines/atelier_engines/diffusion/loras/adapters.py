"""The LoRAs of a model: loaded on first use, and switched from task to task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from atelier_engines.diffusion.loras.catalog import LoraCatalog
from atelier_engines.diffusion.loras.names import DENOISER
from atelier_engines.diffusion.loras.network import AdaptedNetwork
from atelier_engines.diffusion.loras.replacing import LoraStandIn, LoraTarget, ReplacingNetwork
from atelier_engines.diffusion.loras.stand_in_network import StandInNetwork
from atelier_engines.diffusion.loras.weights import LoraWeights, read
from atelier_engines.errors import InvalidTaskError, ModelMissingError
from atelier_engines.local.errors import first_line
from atelier_engines.local.weights import digests
from atelier_engines.task import Lora

LoraKey = tuple[Lora, ...]
"""Identifies a set of LoRAs: those with a weight, in their order."""


class LoraNetwork(Protocol):
    """One network of a model, as LoRAs change it."""

    @property
    def prefix(self) -> str:
        """Its name in the files of LoRAs."""

    @property
    def module(self) -> torch.nn.Module:
        """Its layers by name; their weights may be absent."""

    def load(self, adapter: str, lora: LoraWeights) -> None:
        """Add the part of a LoRA that targets this network.

        Raises:
            Exception: it cannot be applied; the LoRA is removed again.
        """

    def set_adapters(self, adapters: Sequence[str], weights: Sequence[float]) -> None:
        """Set the active adapters and their weights; those that do not target this network are ignored."""

    def delete(self, adapter: str) -> None:
        """Remove an adapter that is not active, and free its memory."""


class LoraSwitch:
    """Switches the LoRAs of a denoiser and its text encoders. Used by one thread at a time."""

    def __init__(
        self, library: LoraCatalog, networks: Sequence[LoraNetwork], *, max_loaded: int
    ) -> None:
        """Start with no active LoRA.

        Args:
            library: finds the files of the LoRAs.
            networks: the text encoders and the denoiser, or all of them where a model has several;
                each is changed by this one alone.
            max_loaded: most LoRAs in memory, but never fewer than a task asks for.
        """
        self._catalog = library
        self._networks = tuple(networks)
        self._max_loaded = max_loaded
        self._loaded: dict[str, str] = {}
        """PEFT's names of the loaded LoRAs, the least recently used first."""
        self._digests: dict[str, str] = {}
        self._count = 0
        self._active: LoraKey | None = ()
        """None after a failure, when it is unknown what is active."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the LoRAs that the engine offers."""
        return self._catalog.names

    @property
    def trigger_words(self) -> Mapping[str, tuple[str, ...]]:
        """The words that the files of LoRAs have for prompts, by LoRA."""
        return self._catalog.trigger_words

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the LoRAs in memory, the least recently used first."""
        return tuple(self._loaded)

    def key(self, loras: Sequence[Lora]) -> LoraKey:
        """The key of a set of LoRAs; equal keys give equal images, and () is the plain model.

        Raises:
            InvalidTaskError: a LoRA is named twice.
        """
        names = [lora.name for lora in loras]
        for name in names:
            if names.count(name) > 1:
                raise InvalidTaskError("loras", f"name the LoRA {name} once, with its final weight")
        return tuple(lora for lora in loras if lora.weight)

    def digests(self, loras: Sequence[Lora]) -> Mapping[str, str]:
        """SHA-256 of the files of these LoRAs by name; they must have been active."""
        return {lora.name: self._digests[lora.name] for lora in loras}

    def activate(self, loras: Sequence[Lora]) -> None:
        """Make these LoRAs active, in their order, and no others.

        Raises:
            UnsupportedError: there is no LoRA of that name.
            InvalidTaskError: a LoRA is named twice.
            ModelMissingError: a LoRA is broken, or does not match the model; the active ones stay active.
        """
        key = self.key(loras)
        if key == self._active:
            return
        # Parameters made in inference mode could not be changed outside of it.
        with torch.inference_mode(mode=False), torch.no_grad():
            try:
                for lora in key:
                    self._ensure_loaded(lora.name)
            except BaseException:
                self._set_adapters(self._active or ())
                raise
            self._active = None
            self._unload_oldest(keep=len(key))
            self._set_adapters(key)
        self._active = key

    def _set_adapters(self, key: LoraKey) -> None:
        adapters = [self._loaded[lora.name] for lora in key]
        weights = [lora.weight for lora in key]
        for network in self._networks:
            network.set_adapters(adapters, weights)

    def _ensure_loaded(self, name: str) -> None:
        """Load a LoRA if it is not loaded, and mark it as the most recently used."""
        adapter = self._loaded.pop(name, None)
        if adapter is None:
            adapter = self._load(name)
        self._loaded[name] = adapter

    def _load(self, name: str) -> str:
        file = self._catalog.file(name)
        lora = read(name, file, [(network.prefix, network.module) for network in self._networks])
        self._count += 1
        adapter = f"atelier_{self._count}"  # PEFT allows no dots, callers do
        try:
            for network in self._networks:
                network.load(adapter, lora)
        except Exception as error:  # PEFT and diffusers raise many kinds
            self._delete(adapter)
            raise _unusable_error(lora, error) from error
        self._digests[name] = digests.digest_file(file)
        return adapter

    def _unload_oldest(self, *, keep: int) -> None:
        """Unload the least recently used LoRAs, where there are too many."""
        while len(self._loaded) > max(self._max_loaded, keep):
            name = next(iter(self._loaded))
            self._delete(self._loaded.pop(name))

    def _delete(self, adapter: str) -> None:
        for network in self._networks:
            network.delete(adapter)


def build_switch(
    library: LoraCatalog,
    *,
    denoisers: Sequence[LoraTarget],
    text_encoders: Sequence[LoraTarget],
    max_loaded: int,
) -> LoraSwitch:
    """The LoRAs of a model whose text encoders are in the family's order."""
    names = ("text_encoder", "text_encoder_2")
    return LoraSwitch(
        library,
        [
            *(_adapt(DENOISER, denoiser) for denoiser in denoisers),
            *(_adapt(name, encoder) for name, encoder in zip(names, text_encoders)),  # noqa: B905 (SD has one)
        ],
        max_loaded=max_loaded,
    )


def _adapt(prefix: str, target: LoraTarget) -> LoraNetwork:
    if isinstance(target, torch.nn.Module):
        return AdaptedNetwork(prefix, target)
    if isinstance(target, LoraStandIn):
        return StandInNetwork(prefix, target)
    return ReplacingNetwork(prefix, target)


def _unusable_error(lora: LoraWeights, error: Exception) -> ModelMissingError:
    return ModelMissingError(f"the LoRA {lora.name} cannot be used: {first_line(error)}")
