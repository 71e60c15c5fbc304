"""Builds networks for ONNX Runtime: exported with torch, checked, opened, compared with torch, kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from atelier_engines.diffusion.builds import parity
from atelier_engines.diffusion.networks import Network
from atelier_engines.diffusion.runtimes.graphs.export import OPSET, export
from atelier_engines.diffusion.runtimes.graphs.graph import Axis, Graph
from atelier_engines.diffusion.runtimes.onnx.session import OnnxSession
from atelier_engines.errors import EngineError, EngineFailedError
from atelier_engines.local.builds import manifest as manifests
from atelier_engines.local.builds.key import BuildKey, digest_values, digest_weights
from atelier_engines.local.builds.manifest import BuildRefusedError, Deviation, Manifest
from atelier_engines.local.builds.store import BuildStore, HeldBuild
from atelier_engines.local.errors import first_line
from atelier_engines.local.load_lock import LOAD_LOCK

DTYPE = torch.float32

_log = logging.getLogger(__name__)

_FORMAT = "4"
"""Raise it when a wrapper changes, so that networks are built anew."""
_FILE = "model.onnx"
_PACKAGES = ("torch", "diffusers", "transformers", "onnxscript", "onnxruntime")

Report = Callable[[str], None]
"""Told each step, in words for people."""


def identify(network: Network) -> BuildKey:
    """The key of a network's build; reads all its weights, once in a process.

    Raises:
        OSError: a file cannot be read.
    """
    return BuildKey(
        network=network.graph.name,
        weights=digest_weights(network.weights),
        loras=digest_weights(network.loras),
        settings=digest_values(network.settings),
        precision=str(DTYPE).removeprefix("torch."),
        shapes=tuple(_describe_shapes(network.graph)),
        device="cpu",
        runtime="onnx",
        versions={name: version(name) for name in _PACKAGES},
        options={"opset": str(OPSET), "format": _FORMAT},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxBuilder:
    """Builds networks into a store."""

    store: BuildStore
    """Where they are kept."""

    def build(self, network: Network, key: BuildKey, report: Report) -> HeldBuild:
        """The build of a network, made unless it is there and valid.

        One process builds it at a time; others wait, and use what was built. A process that is killed leaves no build
        that anybody would load.

        Raises:
            EngineFailedError: it cannot be exported, or computes something else than torch.
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
            with _translate(network.name), self.store.writing(key) as folder:
                self.store.keep(folder, _make(network, key, folder, report))
            held = self.store.hold(key)
        if held is None:
            raise EngineFailedError(f"the build of the {network.name} was removed at once")
        report(_summarize(held.build.manifest, held.build.size_bytes))
        return held


def _make(network: Network, key: BuildKey, folder: Path, report: Report) -> Manifest:
    """Write the files of a build, and say what they are."""
    graph, path, began = network.graph, folder / _FILE, time.monotonic()
    report("exporting")
    inputs = parity.draw_inputs(graph)
    with LOAD_LOCK:
        module = network.load()
        expected = parity.run_torch(graph, module, inputs)
        export(graph, module, path)
    del module  # a network of gigabytes, which is opened again below
    report("checking")
    _check(path)
    report("compiling")
    session = OnnxSession(graph, lambda: path)
    report("verifying")
    deviations = parity.measure(graph, session.run, inputs, expected)
    tolerance = parity.TOLERANCES[DTYPE]
    _require_close(network.name, deviations, tolerance)
    others = sorted(file.name for file in folder.iterdir() if file.name != _FILE)
    return Manifest(
        key=key,
        files=manifests.describe_files(folder, [_FILE, *others]),
        deviations=deviations,
        tolerance=tolerance,
        built_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 3),
    )


def _check(path: Path) -> None:
    """Return if the file is valid ONNX; by its path, since messages end at 2 GB."""
    import onnx  # noqa: PLC0415  (an extra)

    onnx.checker.check_model(str(path))


def _require_close(name: str, deviations: tuple[Deviation, ...], tolerance: float) -> None:
    worst = max(deviations, key=lambda one: one.relative)
    if worst.relative > tolerance:
        raise EngineFailedError(
            f"the {name} computes something else with onnx than with torch: {worst.output} differs by "
            f"{worst.relative:.1e} of its largest number, and {tolerance:.0e} is allowed; set its runtime to torch"
        )


@contextmanager
def _translate(name: str) -> Iterator[None]:
    try:
        yield
    except (EngineError, OSError):
        raise
    except Exception as error:  # the exporter and ONNX Runtime raise anything
        _log.exception("build_failed", extra={"network": name})
        raise EngineFailedError(
            f"the {name} cannot be built for onnx: {first_line(error)}; set its runtime to torch"
        ) from error


def _describe_shapes(graph: Graph) -> Iterator[str]:
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
    worst = max(one.relative for one in manifest.deviations)
    return (
        f"built in {manifest.seconds:.1f} s, {size / 1e6:.1f} MB; differs from torch by at most {worst:.1e} "
        "of the largest number"
    )
