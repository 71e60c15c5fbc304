"""What a task must be like whose clip begins with audio that is given, and goes on after it."""

from __future__ import annotations

from collections.abc import Iterator

from atelier_engines.capabilities import AudioCapabilities
from atelier_engines.errors import InvalidTaskError
from atelier_engines.task import AudioTask

_MIN_SECONDS = 0.2
"""The shortest audio that can be continued: two latents of every model, of which the last one becomes what follows."""
_MIN_FOLLOWING_SECONDS = 0.1
_ROUNDING = 1e-6


def validate_continuation(
    capabilities: AudioCapabilities, task: AudioTask
) -> Iterator[InvalidTaskError]:
    """Why an engine of these capabilities cannot continue the task's audio."""
    if not task.continuation:
        return
    if task.init_audio is None:
        yield InvalidTaskError("continuation", "continuation requires init_audio")
        return
    if task.seamless_loop:
        yield InvalidTaskError("seamless_loop", "seamless_loop cannot be used with continuation")
    seconds, least = task.init_audio.seconds, _MIN_FOLLOWING_SECONDS
    longest = (capabilities.audible_seconds or capabilities.duration_seconds.max) - least
    if not _MIN_SECONDS <= seconds <= longest:
        message = (
            f"init_audio must have {_MIN_SECONDS:g} to {longest:.4g} seconds to be continued by this engine, not "
            f"{seconds:.4g}: send another part of it"
        )
        yield InvalidTaskError("init_audio", message)
    elif task.duration_seconds < seconds + least - _ROUNDING:
        message = (
            f"duration must be at least {seconds + least:.4g} seconds, not {task.duration_seconds:.4g}: "
            f"init_audio has {seconds:.4g}, and something must follow"
        )
        yield InvalidTaskError("duration", message)
