"""Files that an engine's configuration can have built ahead of its start, for the `atelier build` command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTarget:
    """One build that a configuration needs."""

    name: str
    """Which network it is of, for people: `unet`, `ControlNet canny`."""
    digest: str
    """The digest of its key, which its directory is named by."""
    build: Callable[[Callable[[str], None]], None]
    """Builds it unless it is there and valid; calls its argument with each step, in words for people.

    Raises:
        EngineError: it cannot be built, or computes something else than torch.
        OSError: the directory cannot be written to, or the disk is full.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """All builds that a configuration needs."""

    directory: Path
    """Where they are kept."""
    targets: tuple[BuildTarget, ...]
    """In the order in which they are built."""


ConfigT_contra = TypeVar("ConfigT_contra", contravariant=True)


class LibraryFetcher(Protocol[ConfigT_contra]):
    """Fetches the libraries that a configuration of an engine type needs and that no Python package has."""

    def __call__(
        self, config: ConfigT_contra, repository: str, report: Callable[[str], None], /
    ) -> None:
        """Have them on this machine.

        Args:
            config: of the engine.
            repository: an https address, or a directory, that is laid out as Maven repositories are.
            report: called with each step, in words for people.

        Raises:
            EngineError: they are not there, or are others than they should be.
            OSError: the disk is full, or the directory of builds cannot be written to.
        """


class BuildPlanner(Protocol[ConfigT_contra]):
    """Plans all builds that a configuration of an engine type needs; reads all weights, to digest them."""

    def __call__(self, config: ConfigT_contra, /) -> BuildPlan:
        """The plan; without targets where the configuration needs no builds.

        Raises:
            ModelMissingError: weights are absent or broken.
            EngineUnavailableError: a package or device is absent.
        """
