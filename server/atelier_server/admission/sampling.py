"""Decides steps, guidance and scheduler of an image task, and what the profile for speed makes of them."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.v1 import task_pb2 as pb
from atelier_engines.capabilities import ImageCapabilities
from atelier_engines.task import ResourceProfile
from atelier_server.admission.parameters import ParameterRecorder, to_decimal
from atelier_server.config.settings import StyleSettings

_FAST_STEPS = 20
_FAST_SCHEDULERS = ("dpmpp_2m", "unipc", "euler")
"""Schedulers of one run of the denoiser a step that need the fewest steps, the best first."""
_WHY_FAST = "not given: resource_profile speed takes at most 20 steps, and a scheduler for few"
_RESOURCE_PROFILES = {
    pb.RESOURCE_PROFILE_SPEED: ResourceProfile.SPEED,
    pb.RESOURCE_PROFILE_BALANCED: ResourceProfile.BALANCED,
    pb.RESOURCE_PROFILE_MEMORY: ResourceProfile.MEMORY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a task is denoised."""

    steps: int | None
    """None on engines that have none."""
    guidance: float | None
    """None on engines that have none."""
    scheduler: str
    """Empty on engines that have none."""
    profile: ResourceProfile | None
    """The profile of the task; None for the engine's own."""


def choose_sampling(
    request: pb.ImageTask,
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
    style: StyleSettings,
) -> Sampling:
    """Everything within the engine's limits.

    The profile for speed takes fewer steps than the engine's default, where that is more than 20, and then a scheduler
    that needs few; what the request or its style names stays as it is, and so does a model made for few steps.
    """
    fast = _is_shortened(request, capabilities, style)
    steps = recorder.clamp(
        "steps",
        request.steps if request.HasField("steps") else None,
        capabilities.steps,
        _FAST_STEPS if fast else style.steps,
        explanation=_WHY_FAST if fast else "not given",
    )
    guidance = recorder.clamp(
        "guidance",
        to_decimal(request.guidance) if request.HasField("guidance") else None,
        capabilities.guidance,
        style.guidance,
    )
    return Sampling(
        steps=None if steps is None else int(steps),
        guidance=guidance,
        scheduler=_choose_scheduler(request, capabilities, recorder, fast=fast),
        profile=_choose_profile(request, capabilities, recorder, fast=fast),
    )


def _is_shortened(
    request: pb.ImageTask, capabilities: ImageCapabilities, style: StyleSettings
) -> bool:
    """Whether the profile for speed decides the steps, because nobody else does and the default is long."""
    return (
        request.resource_profile == pb.RESOURCE_PROFILE_SPEED
        and capabilities.steps is not None
        and capabilities.steps.default > _FAST_STEPS >= capabilities.steps.min
        and not request.HasField("steps")
        and style.steps is None
    )


def _choose_scheduler(
    request: pb.ImageTask,
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
    *,
    fast: bool,
) -> str:
    known = capabilities.schedulers
    quick = next((name for name in _FAST_SCHEDULERS if name in known), "")
    if request.scheduler or not fast or not quick:
        return recorder.choose("scheduler", request.scheduler, known)
    return recorder.choose("scheduler", "", (quick,), explanation=_WHY_FAST)


def _choose_profile(
    request: pb.ImageTask,
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
    *,
    fast: bool,
) -> ResourceProfile | None:
    """The profile, if the engine lets callers choose it; for speed fewer steps may stand in for it."""
    requested, offered = (
        _RESOURCE_PROFILES.get(request.resource_profile),
        capabilities.resource_profiles,
    )
    if fast and requested is not None and requested not in offered:
        reason = "this engine has no profiles: fewer steps, and a scheduler for few"
        recorder.emulate("resource_profile", str(requested.value), reason)
        return None
    return recorder.choose_optional("resource_profile", requested, offered)
