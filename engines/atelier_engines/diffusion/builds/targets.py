"""What a configuration of a diffusion engine needs built, by every runtime that it names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from atelier_engines.builds import BuildTarget
from atelier_engines.diffusion import networks, number_formats
from atelier_engines.diffusion.builds import onnx_builds, tensorrt_builds
from atelier_engines.diffusion.builds.network_builder import NetworkBuilder, Report
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.networks import Network
from atelier_engines.diffusion.runtimes.onnx.opening import require_installed
from atelier_engines.diffusion.runtimes_config import LIBRARY_NAMES, LibraryName
from atelier_engines.diffusion.weights.model_files import ModelFiles
from atelier_engines.local.builds.key import BuildKey
from atelier_engines.local.builds.store import BuildStore, HeldBuild


def list_targets(
    config: DiffusionConfig, model: ModelFiles, store: BuildStore
) -> Iterator[BuildTarget]:
    """Every network that is built, in the order in which it is.

    Raises:
        ModelMissingError: weights are absent or broken.
        EngineUnavailableError: a package or device is absent.
    """
    if "onnx" in config.runtimes.names:
        require_installed()
        builder = onnx_builds.OnnxBuilder(store=store)
        for network in networks.list_networks(config, model, "onnx", onnx_builds.DTYPE):
            yield describe_target(builder, network)
    for name in LIBRARY_NAMES:
        if name in config.runtimes.names:
            yield from _list_plans(config, model, store, name)


def _list_plans(
    config: DiffusionConfig, model: ModelFiles, store: BuildStore, name: LibraryName
) -> Iterator[BuildTarget]:
    """The plans of a library for every kind of device that is configured, and what was fetched of the library."""
    dtype = number_formats.choose_for_cards(config)
    vae_dtype = number_formats.choose_vae_dtype(config, model, dtype)
    listed: set[str] = set()
    for device in config.devices or (config.device,):
        of_device = config.model_copy(update={"device": device, "devices": ()})
        compiler = tensorrt_builds.create(of_device, name, store)
        if compiler.target in listed:
            continue
        listed.add(compiler.target)
        if compiler.library.held is not None and len(listed) == 1:
            yield _describe_libraries(compiler.library.held)
        for network in networks.list_networks(config, model, name, dtype, vae_dtype=vae_dtype):
            yield describe_target(compiler, network)


def describe_target(builder: NetworkBuilder, network: Network) -> BuildTarget:
    """The build of a network; reads all its weights, once in a process."""
    key = builder.identify(network)
    return BuildTarget(
        name=network.name, digest=key.digest, build=partial(_build, builder, network, key)
    )


def _build(builder: NetworkBuilder, network: Network, key: BuildKey, report: Report) -> None:
    builder.build(network, key, report).release()


def _describe_libraries(held: HeldBuild) -> BuildTarget:
    """What was fetched of a library: it is listed, verified and kept as builds are, and fetched by a command alone."""
    return BuildTarget(
        name="libraries of TensorRT",
        digest=held.build.manifest.key.digest,
        build=lambda report: report("already there"),
    )
