"""What the server does with the samples of an engine, as it was decided."""

from __future__ import annotations

from dataclasses import dataclass

MAX_TRUE_PEAK_DBTP = -1.0
"""The most that audio of a given loudness may have, in decibels relative to full scale. Source: EBU R 128, 2023, h."""
MIN_LOUDNESS_SECONDS = 0.4
"""One block of the measurement. Source: ITU-R BS.1770-5, annex 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finishing:
    """The decision for one task."""

    sample_rate: int
    """Hertz of the output."""
    channels: int
    """Channels of the output."""
    seconds: float | None = None
    """Exact duration of the output; None where the engine's prompt decides it."""
    crossfade_seconds: float = 0.0
    """How much more the engine makes, which is crossfaded into the beginning; 0 for none."""
    loops: bool = False
    """Whether the engine's own samples are a loop."""
    high_pass_hz: float | None = None
    """Cut-off frequency; None for no filter."""
    fade_in_seconds: float = 0.0
    fade_out_seconds: float = 0.0
    loudness_lufs: float | None = None
    """Target of the integrated loudness; None leaves it."""

    @property
    def samples(self) -> int | None:
        """Exact length of the output; None where the prompt decides it."""
        return None if self.seconds is None else round(self.seconds * self.sample_rate)
