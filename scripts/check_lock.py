"""Checks that everything locked has wheels, for every Python that we allow on every platform.

python scripts/check_lock.py UV

An sdist would be built on the machine of whoever installs it, with a compiler that many do not have.
The index is asked for names of files; nothing is installed.
"""

import itertools
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLATFORMS = (
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
)
LOCKS = ("dev", "gateway", "uv")
"""What is installed to run and to develop; the other locks are for tests, which are skipped without them."""
OLDEST_MACOS = "14.0"
"""What PyTorch's wheels ask for."""
PARALLEL = 8
"""Most of the time goes into waiting for the index."""


def allowed_pythons() -> list[str]:
    """The versions that all distributions allow."""
    allowed = {
        tomllib.loads(path.read_text())["project"]["requires-python"]
        for folder in ("clients/python", "engines", "models/tiny", "server")
        for path in [ROOT / folder / "pyproject.toml"]
    }
    if len(allowed) != 1:
        sys.exit(f"the distributions allow different Pythons: {sorted(allowed)}")
    first, last = allowed.pop().removeprefix(">=3.").split(",<3.")
    return [f"3.{minor}" for minor in range(int(first), int(last))]


def find_missing(uv: str, lock: str, python: str, platform: str) -> str:
    """What has no wheel, in the words of uv; empty if all have one."""
    command = [
        *("/usr/bin/env", f"MACOSX_DEPLOYMENT_TARGET={OLDEST_MACOS}"),
        *(uv, "pip", "compile", "--quiet", "--no-header", "--no-deps", "--only-binary", ":all:"),
        *("--python", sys.executable, "--python-version", python, "--python-platform", platform),
        *("--output-file", "/dev/null", str(ROOT / "requirements" / f"{lock}.txt")),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - uv, by the Makefile
    return "" if ended.returncode == 0 else ended.stderr.strip()


def main(uv: str) -> None:
    """Check every lock, and fail with all that is missing."""
    pythons = allowed_pythons()
    cases = list(itertools.product(LOCKS, pythons, PLATFORMS))
    with ThreadPoolExecutor(PARALLEL) as pool:
        missing = list(pool.map(lambda case: find_missing(uv, *case), cases))
    failures = [
        f"{', '.join(case)}: {text}" for case, text in zip(cases, missing, strict=True) if text
    ]
    if failures:
        sys.exit("\n".join(failures))
    print(
        f"wheels of all that is locked: Python {', '.join(pythons)} on {len(PLATFORMS)} platforms"
    )


main(*sys.argv[1:])
