"""Builds networks for ONNX Runtime: exported with torch, checked, opened, compared with torch, kept."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch

from atelier_engines.diffusion.builds import parity
from atelier_engines.diffusion.builds.network_builder import (
    BuiltNetwork,
    NetworkBuilder,
    Report,
    describe_shapes,
    require_close,
)
from atelier_engines.diffusion.networks import Network
from atelier_engines.diffusion.runtimes.graphs.export import OPSET, check, export
from atelier_engines.diffusion.runtimes.onnx.session import OnnxSession
from atelier_engines.local.builds.key import BuildKey, digest_values, digest_weights
from atelier_engines.local.load_lock import LOAD_LOCK

DTYPE = torch.float32

_FORMAT = "4"
"""Raise it when a wrapper changes, so that networks are built anew."""
_FILE = "model.onnx"
_PACKAGES = ("torch", "diffusers", "transformers", "onnxscript", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxBuilder(NetworkBuilder):
    """See NetworkBuilder."""

    @property
    def runtime(self) -> Literal["onnx"]:
        """See NetworkBuilder.runtime."""
        return "onnx"

    def identify(self, network: Network) -> BuildKey:
        """See NetworkBuilder.identify."""
        return BuildKey(
            network=network.graph.name,
            weights=digest_weights(network.weights),
            loras=digest_weights(network.loras),
            settings=digest_values(network.settings),
            precision=str(DTYPE).removeprefix("torch."),
            shapes=tuple(describe_shapes(network.graph)),
            device="cpu",
            runtime=self.runtime,
            versions={name: version(name) for name in _PACKAGES},
            options={"opset": str(OPSET), "format": _FORMAT},
        )

    def make(self, network: Network, folder: Path, report: Report) -> BuiltNetwork:
        """See NetworkBuilder.make."""
        graph, path = network.graph, folder / _FILE
        report("exporting")
        inputs = parity.draw_inputs(graph)
        with LOAD_LOCK:
            module = network.load()
            expected = parity.run_torch(graph, module, inputs)
            export(graph, module, path)
        del module  # a network of gigabytes, which is opened again below
        report("checking")
        check(path)
        report("compiling")
        session = OnnxSession(graph, lambda: path)
        report("verifying")
        deviations = parity.measure(graph, session.run, inputs, expected)
        tolerance = parity.TOLERANCES[DTYPE]
        require_close(network.name, self.runtime, deviations, tolerance)
        others = sorted(file.name for file in folder.iterdir() if file.name != _FILE)
        return BuiltNetwork(files=(_FILE, *others), deviations=deviations, tolerance=tolerance)
