"""Writes the bill of materials of an image, as CycloneDX 1.6: our packages, and what the image's lock installs.

python scripts/write_sbom.py CYCLONEDX_PY LOCK OUTPUT

A lock is for every platform; the images are of one. What the lock lists for others is left out. Runs with the same
lock and the same version write the same bytes.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
IMAGE: Mapping[str, str] = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.13.0",
    "python_version": "3.13",
    "sys_platform": "linux",
}
"""Where images/Dockerfile installs, as markers of requirements know it."""
MAIN = "server"
OWN: Mapping[str, Sequence[str]] = {
    "image-gateway": ("engines", "clients/python"),
    "image-gpu": ("engines", "clients/python", "models/tiny"),
}
"""Folders of our packages beside the server in the image, by its lock."""


def read_lock(path: Path) -> Iterator[str]:
    """Requirements of the lock that the image installs, each on one line with its hashes."""
    for line in re.sub(r"\\\n\s*", " ", path.read_text()).splitlines():
        if not line or line.lstrip().startswith("#"):
            continue
        text, *hashes = line.split(" --hash=")
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(dict(IMAGE)):
            pinned = f"{requirement.name}{requirement.specifier}"
            yield " --hash=".join([pinned, *(found.strip() for found in hashes)])


def read_own(folders: Sequence[str]) -> Iterator[str]:
    """Our packages as requirements, which are no lines of the lock."""
    for folder in folders:
        project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        yield f"{project['name']}=={project['version']}"


def write(tool: Path, lock: Path, output: Path) -> None:
    """Write the bill of materials of the image with this lock.

    Raises:
        CalledProcessError: the tool finds that something is wrong, its own output included.
    """
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "requirements.txt"
        lines = [*read_own(OWN[lock.stem]), *read_lock(lock)]
        listed.write_text("".join(f"{line}\n" for line in lines))
        command: list[str | Path] = [
            *(tool, "requirements", listed, "--pyproject", ROOT / MAIN / "pyproject.toml"),
            *("--sv", "1.6", "--output-reproducible", "--output-file", "-"),
        ]
        ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - by the Makefile
    bill: dict[str, Any] = json.loads(ended.stdout)
    for component in bill["components"]:
        del component["description"]  # the line of the lock, hashes and all
    output.write_text(json.dumps(bill, indent=1) + "\n")


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:4]))
