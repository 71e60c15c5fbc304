"""What a picture's file says of its making."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The same twice. Neither tells when, for whom or under which id: equal tasks have equal files."""

    parameters: str
    """For people, and for the tools of Stable Diffusion: prompt, negative prompt, a line of settings."""
    record: str
    """For programs: one JSON object."""
