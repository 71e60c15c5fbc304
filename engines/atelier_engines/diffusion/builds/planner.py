"""What `atelier build` can build for a diffusion engine. Imports no torch before it plans."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from atelier_engines.builds import BuildPlan, BuildTarget
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local import cpu
from atelier_engines.local.builds.store import BuildStore, find_directory

if TYPE_CHECKING:
    from atelier_engines.diffusion.builds.onnx_builds import OnnxBuilder
    from atelier_engines.diffusion.networks import Network
    from atelier_engines.local.builds.key import BuildKey


def plan(config: DiffusionConfig) -> BuildPlan:
    """See BuildPlanner."""
    directory = find_directory(config.builds_directory)
    nothing = BuildPlan(directory=directory, targets=())
    if "onnx" not in config.runtimes.names and config.runtime != "auto":
        return nothing
    try:
        import torch  # noqa: PLC0415  (takes seconds)
        import transformers  # noqa: PLC0415  (the same)

        from atelier_engines.diffusion import networks, runtime_choice  # noqa: PLC0415  (the same)
        from atelier_engines.diffusion.builds import onnx_builds  # noqa: PLC0415  (the same)
        from atelier_engines.diffusion.runtimes.onnx.opening import require_installed  # noqa: PLC0415  (the same)
        from atelier_engines.diffusion.weights.model_files import find_model_files  # noqa: PLC0415  (the same)
        from atelier_engines.local import devices  # noqa: PLC0415  (the same)
    except ImportError as error:
        raise EngineUnavailableError(
            f"a package is missing: {error}; install atelier-engines[local]"
        ) from error
    config = runtime_choice.decide(config, devices.resolve_device(config.device))
    if "onnx" not in config.runtimes.names:
        return nothing
    require_installed()
    torch.set_num_threads(cpu.thread_count())
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers'
    builder = onnx_builds.OnnxBuilder(store=BuildStore(directory=directory))
    model = find_model_files(config)
    found = networks.list_networks(config, model, "onnx", onnx_builds.DTYPE)
    targets = [_describe(builder, network, onnx_builds.identify(network)) for network in found]
    return BuildPlan(directory=directory, targets=tuple(targets))


def _describe(builder: OnnxBuilder, network: Network, key: BuildKey) -> BuildTarget:
    return BuildTarget(
        name=network.name, digest=key.digest, build=partial(_build, builder, network, key)
    )


def _build(
    builder: OnnxBuilder, network: Network, key: BuildKey, report: Callable[[str], None]
) -> None:
    builder.build(network, key, report).release()
