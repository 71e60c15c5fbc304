"""What `atelier build` can build for a diffusion engine. Imports no torch before it plans."""

from __future__ import annotations

from atelier_engines.builds import BuildPlan
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local import cpu
from atelier_engines.local.builds.store import BuildStore, find_directory


def plan(config: DiffusionConfig) -> BuildPlan:
    """See BuildPlanner."""
    directory = find_directory(config.builds_directory)
    nothing = BuildPlan(directory=directory, targets=())
    if config.runtimes.names == {"torch"} and config.runtime != "auto":
        return nothing
    try:
        import torch  # noqa: PLC0415  (takes seconds)
        import transformers  # noqa: PLC0415  (the same)

        from atelier_engines.diffusion import runtime_choice  # noqa: PLC0415  (the same)
        from atelier_engines.diffusion.builds import targets  # noqa: PLC0415  (the same)
        from atelier_engines.diffusion.weights.model_files import find_model_files  # noqa: PLC0415  (the same)
        from atelier_engines.local import devices  # noqa: PLC0415  (the same)
    except ImportError as error:
        raise EngineUnavailableError(
            f"a package is missing: {error}; install atelier-engines[local]"
        ) from error
    if config.runtime == "auto":  # others may be built for a device that is not here
        config = runtime_choice.decide(config, devices.resolve_device(config.device))
    if config.runtimes.names == {"torch"}:
        return nothing
    torch.set_num_threads(cpu.thread_count())
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers'
    found = targets.list_targets(config, find_model_files(config), BuildStore(directory=directory))
    return BuildPlan(directory=directory, targets=tuple(found))
