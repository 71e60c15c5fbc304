"""The weights that an engine is configured with, for the `atelier models` command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Weights that are on this machine."""

    files: tuple[Path, ...]
    """All files; each exists."""
    family: str = ""
    """Model family: sdxl, sd15 and so on; empty where it has no name."""
    notes: str = ""
    """What was found out about the model and how, for people; empty where there is nothing to say."""
    digest: Callable[[], str]
    """SHA-256 over all bytes, in hexadecimal; takes as long as reading them."""
    verify: Callable[[], None]
    """Returns if the files are complete and have the expected digests; reads all bytes.

    Raises:
        ModelMissingError: they are not; the message names the file and the problem.
    """

    @property
    def size_bytes(self) -> int:
        """Size of all files together."""
        return sum(path.stat().st_size for path in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsEntry:
    """Weights that a configuration names."""

    key: str
    """The setting that names them: model, controlnets.depth and so on."""
    source: str
    """As configured: a path, a name on a hub."""
    find: Callable[[bool], Weights]
    """The weights; True downloads what is not on this machine, False never uses the network.

    Raises:
        ModelMissingError: they are not there, or not usable; the message says which places were searched.
        EngineUnavailableError: a package that is needed is not installed.
    """


ConfigT_contra = TypeVar("ConfigT_contra", contravariant=True)


class WeightsLister(Protocol[ConfigT_contra]):
    """Lists all weights that a configuration of an engine type names, without reading them."""

    def __call__(self, config: ConfigT_contra, /) -> Sequence[WeightsEntry]:
        """The weights in the order of the configuration, the model first."""
