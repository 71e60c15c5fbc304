"""Lays siege to a server: `python -m tests.siege --generations 2000 --seed 7`; exit status 1 if it broke a promise."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.siege.run import SiegeSettings, besiege

_GENERATIONS = 2000


def main() -> int:
    """Read the command line, run, and print the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.siege", description=__doc__)
    parser.add_argument("--generations", type=int, default=_GENERATIONS)
    parser.add_argument("--seed", type=int, help="repeats a siege; a random one when unset")
    parser.add_argument("--directory", type=Path, help="keeps the log of the server here")
    parser.add_argument("--silence", type=float, default=300.0, help="seconds without news: stuck")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="siege-") as temporary:
        directory = arguments.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        settings = SiegeSettings(
            generations=arguments.generations,
            seed=seed,
            directory=directory.resolve(),
            silence_seconds=arguments.silence,
        )
        report = asyncio.run(besiege(settings))
    print("\n".join(report.lines()), flush=True)
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
