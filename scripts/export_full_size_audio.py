"""Exports TangoFlux's denoiser and decoder in full size, with random weights, and compares them with torch.

`python scripts/export_full_size_audio.py [NAME...]`: `denoiser` and `decoder`, or one of them; each in a process of its
own, whose peak of memory is printed. The files, up to 2.1 GB, are removed.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch

from atelier_engines.audio_diffusion.oobleck import describe_decoder
from atelier_engines.diffusion.builds import parity
from atelier_engines.diffusion.runtimes.graphs.export import export
from atelier_engines.diffusion.runtimes.graphs.graph import Graph
from atelier_engines.diffusion.runtimes.onnx.session import OnnxSession
from atelier_engines.local.load_lock import LOAD_LOCK
from atelier_engines.tangoflux import network
from atelier_engines.tangoflux.denoiser_graph import describe_denoiser
from atelier_engines.tangoflux.published_files import NetworkConfig

_TEXT_WIDTH = 1024
_PUBLISHED = network.OobleckShape(
    encoder_width=128,
    decoder_width=128,
    latent_width=64,
    channels=2,
    ratios=(2, 4, 4, 8, 8),
    multiples=(1, 2, 4, 8, 16),
)
_SIZE: Mapping[str, int] = {"rows": 2, "tokens": 19, "latents": 40}
"""A clip with guidance, and a piece of two seconds."""
_TOLERANCE = 1e-5
"""The largest deviation, as a fraction of the largest number."""


def main() -> None:
    """Export those that are named, or both."""
    names = sys.argv[1:] or list(_NETWORKS)
    if len(names) == 1:
        _report(names[0])
        return
    for name in names:
        subprocess.run([sys.executable, __file__, name], check=True)  # noqa: S603 (this file)


def _report(name: str) -> None:
    began = time.monotonic()
    graph, module = _NETWORKS[name]()
    with TemporaryDirectory(prefix="atelier-export-") as temporary:
        path = Path(temporary) / "model.onnx"
        export(graph, module, path)
        onnx.checker.check_model(path)
        size = sum(file.stat().st_size for file in path.parent.iterdir())
        took, exported = time.monotonic() - began, _peak()
        relative = _compare(graph, module, path)
    print(
        f"{name}: {sum(one.numel() for one in module.parameters()) / 1e6:.1f} M numbers, {size / 1e9:.2f} GB; exported "
        f"in {took:.0f} s, peak memory {exported:.1f} GB, with the comparison {_peak():.1f} GB; ONNX Runtime against "
        f"torch: {relative:.1e} of the largest number",
        flush=True,
    )
    if not relative <= _TOLERANCE:
        sys.exit(f"{name}: that is more than {_TOLERANCE}")


def _peak() -> float:
    """The most memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _compare(graph: Graph, module: torch.nn.Module, path: Path) -> float:
    """The largest deviation of ONNX Runtime from torch, as a fraction of the largest number."""
    drawn = parity.draw_inputs(graph, [_SIZE])
    wanted = parity.run_torch(graph, module, drawn)
    (found,) = parity.measure(graph, OnnxSession(graph, lambda: path).run, drawn, wanted)
    if not found.largest_value > 0:
        sys.exit(f"the {graph.name} computes nothing but zeros")
    return found.relative


def _make_denoiser() -> tuple[Graph, torch.nn.Module]:
    config = NetworkConfig()
    graph = describe_denoiser(config, _TEXT_WIDTH, torch.float32)
    return graph, _fill(lambda: network.create_denoiser(config, _TEXT_WIDTH))


def _make_decoder() -> tuple[Graph, torch.nn.Module]:
    made = _fill(lambda: network.create_autoencoder(_PUBLISHED))
    return describe_decoder(_PUBLISHED.latent_width), made


def _fill(create: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    """A module with the random weights that it begins with, always the same."""
    torch.manual_seed(0)
    with LOAD_LOCK:
        module = create()
    return module.eval().requires_grad_(requires_grad=False)


_NETWORKS: Mapping[str, Callable[[], tuple[Graph, torch.nn.Module]]] = {
    "decoder": _make_decoder,
    "denoiser": _make_denoiser,
}


if __name__ == "__main__":
    main()
