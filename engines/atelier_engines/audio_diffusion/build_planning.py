"""What `atelier build` can build for an audio engine. Imports no torch before it plans."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from atelier_engines.audio_diffusion.config import AudioModelConfig
from atelier_engines.audio_diffusion.engine import require_license
from atelier_engines.audio_diffusion.info import AudioModelInfo
from atelier_engines.builds import BuildPlan
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local import cpu
from atelier_engines.local.builds.store import find_directory

if TYPE_CHECKING:
    from atelier_engines.audio_diffusion.networks import AudioNetworks


def plan(
    config: AudioModelConfig, unloaded: AudioModelInfo, find: Callable[[], AudioNetworks]
) -> BuildPlan:
    """See BuildPlanner; `find` returns the networks of the model, and may import torch.

    Raises:
        EngineUnavailableError: the licence of the weights is not accepted, or a package is absent.
        ModelMissingError: weights are absent or broken.
    """
    directory = find_directory(config.builds_directory)
    if config.runtime == "torch":
        return BuildPlan(directory=directory, targets=())
    require_license(config, unloaded)
    try:
        import torch  # noqa: PLC0415  (takes seconds)

        from atelier_engines.audio_diffusion import networks  # noqa: PLC0415  (the same)
        from atelier_engines.diffusion.builds.targets import describe_target  # noqa: PLC0415  (the same)
    except ImportError as error:
        raise EngineUnavailableError(
            f"a package is missing: {error}; install atelier-engines[local]"
        ) from error
    torch.set_num_threads(cpu.thread_count())
    builder, found = networks.create_builder(config), find()
    pair = (found.denoiser_network, found.decoder_network)
    return BuildPlan(
        directory=directory, targets=tuple(describe_target(builder, network) for network in pair)
    )
