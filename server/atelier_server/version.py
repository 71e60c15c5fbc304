"""The version of the installed server."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("atelier-server")
