"""The command line `atelier`."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command of this process's arguments, and exit with its code."""
    try:
        from atelier_client.cli.app import run  # noqa: PLC0415 - Ctrl-C may come while it is imported
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))
