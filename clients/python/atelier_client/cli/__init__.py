"""The command line `atelier`."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command of this process's arguments, and exit with its code."""
    try:
        from atelier_client.cli.app import run  # noqa: PLC0415 - Ctrl-C may come while it is imported
        from atelier_client.cli.streams import forgive_streams  # noqa: PLC0415 - as above
    except KeyboardInterrupt:
        sys.exit(130)
    forgive_streams()
    sys.exit(run(sys.argv[1:]))
