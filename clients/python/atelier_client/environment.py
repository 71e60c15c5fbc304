"""Reads the environment: the server and the token for it, and what the terminal supports."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_SERVER = "localhost:50051"


def read_named_server() -> str:
    """The address in `ATELIER_SERVER`; empty if there is none."""
    return os.environ.get("ATELIER_SERVER", "")


def read_server_address() -> str:
    """The address in `ATELIER_SERVER`, or localhost:50051."""
    return read_named_server() or DEFAULT_SERVER


def read_token() -> str:
    """The key or token in `ATELIER_TOKEN`; empty if there is none."""
    return os.environ.get("ATELIER_TOKEN", "").strip()


def find_profiles() -> Path:
    """The file of the servers that `atelier login` has saved."""
    folder = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(folder).expanduser() / "atelier" / "servers.json"


def has_proxy() -> bool:
    """Whether gRPC may connect through a proxy, by the variables that it reads."""
    return any(os.environ.get(name) for name in ("grpc_proxy", "https_proxy", "http_proxy"))


def silence_grpc() -> None:
    """Let gRPC write nothing of its own on stderr, unless `GRPC_VERBOSITY` is set; it reads it when it is imported."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Environment variables that identify the terminal; empty where they are not set."""

    term: str = ""
    program: str = ""
    """`TERM_PROGRAM`, or `LC_TERMINAL`, which survives ssh."""
    kitty_window_id: str = ""
    multiplexer: str = ""
    """Set inside tmux and screen, which do not pass images on."""


def read_terminal() -> Terminal:
    """The terminal in which this process runs."""
    return Terminal(
        term=os.environ.get("TERM", ""),
        program=os.environ.get("TERM_PROGRAM") or os.environ.get("LC_TERMINAL", ""),
        kitty_window_id=os.environ.get("KITTY_WINDOW_ID", ""),
        multiplexer=os.environ.get("TMUX") or os.environ.get("STY", ""),
    )
