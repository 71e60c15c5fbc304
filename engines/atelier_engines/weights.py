"""What engines tell of the weights that they are configured with, so that people can look after them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Weights that are on this machine."""

    files: tuple[Path, ...]
    """All of them; each is there."""
    family: str = ""
    """What they are: sdxl, sd15 and so on; empty where there is no word for it."""
    digest: Callable[[], str]
    """SHA-256 over all bytes, in hexadecimal; takes as long as reading them."""
    verify: Callable[[], None]
    """Returns if the files are whole and what was meant; reads all bytes.

    Raises:
        ModelMissingError: they are not; the text names the file and what is wrong.
    """

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
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
        ModelMissingError: they are not there, or not usable; the text says where was looked.
        EngineUnavailableError: a package that is needed is not installed.
    """


ConfigT_contra = TypeVar("ConfigT_contra", contravariant=True)


class WeightsLister(Protocol[ConfigT_contra]):
    """Lists all weights that a configuration of an engine type names. Finds and reads nothing yet."""

    def __call__(self, config: ConfigT_contra, /) -> Sequence[WeightsEntry]:
        """In the order of the configuration, what matters most first."""
