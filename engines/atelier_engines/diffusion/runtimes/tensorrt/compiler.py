"""Compiles an exported graph to a plan, the file that TensorRT runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atelier_engines.diffusion.runtimes.graphs.graph import Graph
from atelier_engines.diffusion.runtimes.tensorrt.library import Library, require_cuda
from atelier_engines.diffusion.runtimes.tensorrt.profiles import Profile
from atelier_engines.errors import EngineFailedError, EngineUnavailableError


def compile_plan(
    library: Library, graph: Graph, source: Path, profiles: Sequence[Profile], target: Path
) -> None:
    """Write the plan of a graph, in the number formats that the graph names. It is another one each time.

    Args:
        library: what compiles it.
        graph: its specification.
        source: the file in ONNX format.
        profiles: the shapes that it is to run.
        target: where the plan is to be.

    Raises:
        EngineUnavailableError: there is no driver, and the library needs one.
        EngineFailedError: it cannot be compiled.
        OSError: the plan cannot be written.
    """
    if library.name == "tensorrt":
        require_cuda(library.name)
    trt = library.module
    builder = _create_builder(library)
    # TensorRT 10 has other networks too; 11 and TensorRT for RTX know nothing else, and accept the flag.
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, library.logger)
    if not parser.parse_from_file(str(source)):
        raise EngineFailedError(f"{library.name} cannot read its graph: {_describe(parser)}")
    config = builder.create_builder_config()
    for profile in profiles:
        config.add_optimization_profile(_create_profile(builder, graph, profile))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineFailedError(f"{library.name} cannot compile it: {library.last_error}")
    with target.open("wb") as file:
        file.write(plan)


def _create_builder(library: Library) -> Any:  # noqa: ANN401 (bindings have no types)
    try:
        return library.module.Builder(library.logger)
    except TypeError as error:  # what pybind11 raises where there is no driver
        raise EngineUnavailableError(
            f"{library.name} cannot compile here: {library.last_error}"
        ) from error


def _create_profile(builder: Any, graph: Graph, profile: Profile) -> Any:  # noqa: ANN401 (bindings have no types)
    made = builder.create_optimization_profile()
    for one in graph.inputs:
        shapes = (one.lengths(each) for each in (profile.least, profile.usual, profile.most))
        made.set_shape(one.name, *shapes)
    return made


def _describe(parser: Any) -> str:  # noqa: ANN401 (bindings have no types)
    """The first error of a parser: the others follow from it."""
    if not parser.num_errors:
        return "the file cannot be read"
    error = parser.get_error(0)
    return f"{error.node_operator()} {error.node_name()}: {error.desc()}"
