"""Builds networks into a store, each once, whatever they are built for."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from atelier_engines.diffusion.networks import Network
from atelier_engines.diffusion.runtimes.graphs.graph import Axis, Graph
from atelier_engines.diffusion.runtimes_config import RuntimeName
from atelier_engines.errors import EngineError, EngineFailedError
from atelier_engines.local.builds import manifest as manifests
from atelier_engines.local.builds.key import BuildKey
from atelier_engines.local.builds.manifest import BuildRefusedError, Deviation, Manifest
from atelier_engines.local.builds.store import BuildStore, HeldBuild
from atelier_engines.local.errors import first_line

_log = logging.getLogger(__name__)

Report = Callable[[str], None]
"""Told each step, in words for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltNetwork:
    """What was written for a network."""

    files: tuple[str, ...]
    """Names of all files; the first is the one to open."""
    deviations: tuple[Deviation, ...]
    """How far it is from torch; empty where nothing can run it here."""
    tolerance: float
    """The largest relative deviation that was allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkBuilder(ABC):
    """Builds networks for one runtime."""

    store: BuildStore
    """Where they are kept."""

    @property
    @abstractmethod
    def runtime(self) -> RuntimeName:
        """What runs them."""

    @abstractmethod
    def identify(self, network: Network) -> BuildKey:
        """The key of a network's build; reads all its weights, once in a process.

        Raises:
            OSError: a file cannot be read.
            EngineUnavailableError: what the key depends on is not here, such as a device.
        """

    @abstractmethod
    def make(self, network: Network, folder: Path, report: Report) -> BuiltNetwork:
        """Write the files of a build into an empty directory, and say what they are.

        Raises:
            EngineFailedError: the network computes something else than with torch.
            Exception: whatever exporters and compilers raise.
        """

    def build(self, network: Network, key: BuildKey, report: Report) -> HeldBuild:
        """The build of a network, made unless it is there and valid.

        One process builds it at a time; others wait, and use what was built. A process that is killed leaves no build
        that anybody would load.

        Raises:
            EngineFailedError: it cannot be exported or compiled, or computes something else than torch.
            ModelMissingError: weights are absent or broken.
            OSError: the directory cannot be written to, or the disk is full.
        """
        with self.store.turn(key, lambda: report("waiting for another process to build it")):
            try:
                held = self.store.hold(key)
            except BuildRefusedError as error:
                held = None
                report(f"building it anew, since {error}")
            if held is not None:
                report("already built")
                return held
            with self._translate(network.name), self.store.writing(key) as folder:
                began = time.monotonic()
                made = self.make(network, folder, report)
                manifest = Manifest(
                    key=key,
                    files=manifests.describe_files(folder, made.files),
                    deviations=made.deviations,
                    tolerance=made.tolerance,
                    built_at=datetime.now(UTC).isoformat(timespec="seconds"),
                    seconds=round(time.monotonic() - began, 3),
                )
                self.store.keep(folder, manifest)
            held = self.store.hold(key)
        if held is None:
            raise EngineFailedError(f"the build of the {network.name} was removed at once")
        report(_summarize(held.build.manifest, held.build.size_bytes))
        return held

    @contextmanager
    def _translate(self, name: str) -> Iterator[None]:
        try:
            yield
        except (EngineError, OSError):
            raise
        except Exception as error:  # exporters and compilers raise anything
            _log.exception("build_failed", extra={"network": name})
            raise EngineFailedError(
                f"the {name} cannot be built for {self.runtime}: {first_line(error)}; set its runtime to torch"
            ) from error


def require_close(
    name: str, runtime: RuntimeName, deviations: tuple[Deviation, ...], tolerance: float
) -> None:
    """Return if a build computes what torch does.

    Args:
        name: of the network.
        runtime: what runs the build.
        deviations: what was measured.
        tolerance: the largest relative deviation that is allowed.

    Raises:
        EngineFailedError: an output is too far from torch's.
    """
    worst = max(deviations, key=lambda one: one.relative)
    if worst.relative > tolerance:
        raise EngineFailedError(
            f"the {name} computes something else with {runtime} than with torch: {worst.output} differs by "
            f"{worst.relative:.1e} of its largest number, and {tolerance:.0e} is allowed; set its runtime to torch"
        )


def describe_shapes(graph: Graph) -> Iterator[str]:
    """Inputs and outputs of a graph, as keys have them."""
    for one in graph.inputs:
        dtype = str(one.dtype).removeprefix("torch.")
        yield f"{one.name} {dtype} [{', '.join(map(_describe_axis, one.shape))}]"
    yield f"-> {', '.join(graph.outputs)}"


def _describe_axis(axis: int | Axis) -> str:
    if isinstance(axis, int):
        return str(axis)
    scale = f" * {axis.factor} / {axis.divisor}" if (axis.factor, axis.divisor) != (1, 1) else ""
    return f"{axis.name}{scale} from {axis.least} to {axis.most}"


def _summarize(manifest: Manifest, size: int) -> str:
    made = f"built in {manifest.seconds:.1f} s, {size / 1e6:.1f} MB"
    if not manifest.deviations:
        return f"{made}; not compared with torch, since nothing here can run it"
    worst = max(one.relative for one in manifest.deviations)
    return f"{made}; differs from torch by at most {worst:.1e} of the largest number"
