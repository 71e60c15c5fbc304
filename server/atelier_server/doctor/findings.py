"""What a check of this machine or of the configuration found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    """The server does not start, or an engine cannot work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One fact, and what to do about it."""

    level: Level
    subject: str
    """What was checked, in a word or two."""
    text: str
    remedy: str = ""
    """A command, or what to change; empty where nothing is wrong."""


def ok(subject: str, text: str) -> Finding:
    """A finding that needs nothing."""
    return Finding(level=Level.OK, subject=subject, text=text)


def warning(subject: str, text: str, remedy: str) -> Finding:
    """A finding that some will want to mend."""
    return Finding(level=Level.WARNING, subject=subject, text=text, remedy=remedy)


def failure(subject: str, text: str, remedy: str) -> Finding:
    """A finding that must be mended."""
    return Finding(level=Level.FAILURE, subject=subject, text=text, remedy=remedy)
