"""Builds networks for TensorRT: exported with torch, compiled, compared with torch where there is a GPU, kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import assert_never

import torch

from atelier_engines.diffusion.builds import parity
from atelier_engines.diffusion.builds.network_builder import (
    BuiltNetwork,
    NetworkBuilder,
    Report,
    describe_shapes,
    require_close,
)
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.networks import Network
from atelier_engines.diffusion.runtimes.graphs.export import OPSET, check, export, optimize
from atelier_engines.diffusion.runtimes.graphs.graph import ROWS
from atelier_engines.diffusion.runtimes.tensorrt import compiler, library, profiles
from atelier_engines.diffusion.runtimes.tensorrt.library import Library
from atelier_engines.diffusion.runtimes.tensorrt.profiles import Profile
from atelier_engines.diffusion.runtimes.tensorrt.session import TensorrtSession
from atelier_engines.diffusion.runtimes_config import PLAN_ROWS, LibraryName
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local import devices
from atelier_engines.local.builds.key import BuildKey, digest_values, digest_weights
from atelier_engines.local.builds.manifest import Deviation
from atelier_engines.local.builds.store import BuildStore
from atelier_engines.local.load_lock import LOAD_LOCK

TOLERANCES = {**parity.TOLERANCES, torch.float32: 5e-3, torch.bfloat16: 4e-2}
"""As parity.TOLERANCES; convolutions in float32 are computed in TF32, which has as many bits as float16."""

_FORMAT = "1"
"""Raise it when a wrapper or the compilation changes, so that networks are built anew."""
_FILE = "model.plan"
_PACKAGES = ("torch", "diffusers", "transformers", "onnxscript")
_USUAL_SIDE = 1024
_GUIDED_ROWS = 2
"""An image with guidance has so many, whatever the limit is."""
_LEAST_TILE = 8
"""Pixels: tiles at the edge of an image may be that small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorrtBuilder(NetworkBuilder):
    """See NetworkBuilder."""

    library: Library
    """What compiles and runs them."""
    target: str
    """What GPUs the plans are for, as keys name it."""
    device: torch.device | None
    """The CUDA device that they are compiled and compared on; None where there is none."""
    buckets: tuple[Profile, ...]
    """The sizes of images that plans are fastest at."""
    side: int
    """The longest side of an image in pixels."""
    rows: int
    """The most rows of one run of the denoiser."""

    @property
    def runtime(self) -> LibraryName:
        """See NetworkBuilder.runtime."""
        return self.library.name

    def identify(self, network: Network) -> BuildKey:
        """See NetworkBuilder.identify."""
        return BuildKey(
            network=network.graph.name,
            weights=digest_weights(network.weights),
            loras=digest_weights(network.loras),
            settings=digest_values(network.settings),
            precision=str(network.dtype).removeprefix("torch."),
            shapes=(
                *describe_shapes(network.graph),
                *(one.describe(network.graph) for one in self.profiles_of(network)),
            ),
            device=self.target,
            runtime=self.runtime,
            versions={
                **{name: version(name) for name in _PACKAGES},
                self.runtime: self.library.version,
            },
            options={"opset": str(OPSET), "format": _FORMAT},
        )

    def profiles_of(self, network: Network) -> tuple[Profile, ...]:
        """The profiles of a network's plan, in their order."""
        everything = partial(profiles.for_everything, side=self.side, usual_side=_USUAL_SIDE)
        match network.component:
            case "text_encoders":  # their runs are as small as prompts are short
                return (everything(rows=ROWS.most),)
            case "autoencoder":
                made = (*self.buckets, everything(rows=self.rows, least_side=_LEAST_TILE))
            case "denoiser" | "controlnets":
                made = (*self.buckets, everything(rows=self.rows))
            case other:
                assert_never(other)
        return profiles.for_graph(network.graph, made)

    def make(self, network: Network, folder: Path, report: Report) -> BuiltNetwork:
        """See NetworkBuilder.make."""
        source, plan = folder / "model.onnx", folder / _FILE
        report("exporting")
        with LOAD_LOCK:
            module = network.load()
            export(network.graph, module, source)
        optimize(source)
        report("checking")
        check(source)
        report("compiling")
        with _on(self.device):
            compiler.compile_plan(
                self.library, network.graph, source, self.profiles_of(network), plan
            )
        for path in folder.iterdir():
            if path != plan:
                path.unlink()
        deviations: tuple[Deviation, ...] = ()
        if self.device is not None:
            report("verifying")
            deviations = self._compare(network, module, plan, self.device)
            require_close(network.name, self.runtime, deviations, TOLERANCES[network.dtype])
        return BuiltNetwork(
            files=(_FILE,), deviations=deviations, tolerance=TOLERANCES[network.dtype]
        )

    def _compare(
        self, network: Network, module: torch.nn.Module, plan: Path, device: torch.device
    ) -> tuple[Deviation, ...]:
        """How far a plan is from torch, both on the GPU."""
        inputs = [
            {name: tensor.to(device) for name, tensor in each.items()}
            for each in parity.draw_inputs(network.graph)
        ]
        expected = parity.run_torch(network.graph, module.to(device), inputs)
        session = TensorrtSession(
            self.library,
            network.graph,
            lambda: plan,
            accepted=self.profiles_of(network),
            device=device,
        )
        return parity.measure(network.graph, session.run, inputs, expected)


def create(config: DiffusionConfig, name: LibraryName, store: BuildStore) -> TensorrtBuilder:
    """The builder for a configuration, whose buckets are those of torch.compile.

    Raises:
        EngineUnavailableError: the library is not installed, or compiles on the GPU alone and there is none.
    """
    device = _find_device(config)
    if name == "tensorrt" and device is None:
        raise EngineUnavailableError(
            "the runtime tensorrt needs a CUDA device, and there is none: its plans must be built on a machine with "
            "the GPU that runs them. Run atelier build there, or set runtime to tensorrt_rtx, whose plans are built "
            "anywhere, or to torch or onnx"
        )
    buckets = (
        profiles.for_bucket(width=one.width, height=one.height, rows=one.rows)
        for one in config.compile_buckets
    )
    return TensorrtBuilder(
        store=store,
        library=library.load(name, store.directory),
        target=describe_target(name, device),
        device=device,
        buckets=tuple(buckets),
        side=config.max_side,
        rows=max(_GUIDED_ROWS, config.max_rows or PLAN_ROWS),
    )


def describe_target(name: LibraryName, device: torch.device | None) -> str:
    """What GPUs the plans of a library are for, as keys name it: those of TensorRT run on that kind alone.

    Args:
        name: of the library.
        device: the one they are compiled on.
    """
    if name == "tensorrt_rtx" or device is None:
        return "any GPU that TensorRT for RTX supports"
    major, minor = torch.cuda.get_device_capability(device)
    return f"{torch.cuda.get_device_name(device)} sm_{major}{minor}"


def _find_device(config: DiffusionConfig) -> torch.device | None:
    """The configured CUDA device; None where torch sees none.

    Raises:
        EngineUnavailableError: there are others alone.
    """
    if not torch.cuda.is_available():
        return None
    found = devices.resolve_device(config.device)
    return torch.device("cuda", found.index or 0)


@contextmanager
def _on(device: torch.device | None) -> Iterator[None]:
    """Have the library use that device; nothing where there is none."""
    with nullcontext() if device is None else torch.cuda.device(device):
        yield
