"""The command line `atelier`."""

from __future__ import annotations

import sys
from typing import NoReturn

from atelier_client.cli.app import run


def main() -> NoReturn:
    """Run the command of this process's arguments, and exit with its code."""
    sys.exit(run(sys.argv[1:]))
