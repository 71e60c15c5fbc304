"""Fires mutated requests at a server: `python -m tests.fuzz --messages 1000000 --seed 7`; exit status 1 if it broke."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.run import BrokenPromiseError, fuzz

_MESSAGES = 1_000_000


def main() -> int:
    """Read the command line, run, and print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=_MESSAGES)
    parser.add_argument("--seed", type=int, help="repeats a run; a random one when unset")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        try:
            report = fuzz(arguments.messages, seed, Path(directory), print)
        except BrokenPromiseError as error:
            print(f"broken: {error}", flush=True)
            return 1
    print("\n".join(report.lines()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
