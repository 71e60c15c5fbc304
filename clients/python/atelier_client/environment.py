"""The only reader of the environment: where the server is, and what the terminal can show."""

from __future__ import annotations

import os
from dataclasses import dataclass

DEFAULT_SERVER = "localhost:50051"


def server_address() -> str:
    """`ATELIER_SERVER`, or localhost:50051."""
    return os.environ.get("ATELIER_SERVER") or DEFAULT_SERVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """What a terminal says about itself; each field empty when it says nothing."""

    term: str = ""
    program: str = ""
    """`TERM_PROGRAM`, or `LC_TERMINAL`, which survives ssh."""
    kitty_window: str = ""
    multiplexer: str = ""
    """Set inside tmux and screen, which swallow pictures."""


def terminal() -> Terminal:
    """The terminal this process runs in."""
    return Terminal(
        term=os.environ.get("TERM", ""),
        program=os.environ.get("TERM_PROGRAM") or os.environ.get("LC_TERMINAL", ""),
        kitty_window=os.environ.get("KITTY_WINDOW_ID", ""),
        multiplexer=os.environ.get("TMUX") or os.environ.get("STY", ""),
    )
