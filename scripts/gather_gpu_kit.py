"""Gathers the wheels that a bare machine with a GPU needs for bench/gpu.

python scripts/gather_gpu_kit.py UV DIRECTORY

Versions are those of requirements/dev.txt; wheels are for Python 3.12 on Linux and x86-64. Left out are torch with all
that it needs, and what fits the transformers of the machine: it has both, in versions of its own. Whatever else
transformers needs here is gathered, since another version of it may need something else.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHON = "3.12"
PLATFORM = "manylinux_2_28_x86_64"
MOST_BYTES = 60 * 2**20
PRESENT = ("hf-xet", "huggingface-hub", "safetensors", "tokenizers", "transformers")


def list_needed(uv: str, packages: str) -> set[str]:
    """Packages with versions that are needed, and all that they need."""
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command += ["--python-version", PYTHON, "--python-platform", "x86_64-unknown-linux-gnu"]
    command += ["--constraint", str(ROOT / "requirements" / "dev.txt")]
    ended = subprocess.run(  # noqa: S603 - uv, by the Makefile
        [*command, "-"],
        input=packages,
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.split()[0] for line in ended.stdout.splitlines() if "==" in line}


def main(uv: str, folder: Path) -> None:
    """Download the wheels, and fail if they are larger than the machine takes."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    needed = list_needed(uv, (ROOT / "bench" / "gpu" / "packages.txt").read_text())
    needed -= list_needed(uv, "torch\ntorchvision")
    wanted = sorted(one for one in needed if one.partition("==")[0] not in PRESENT)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--python-version", PYTHON, "--platform", PLATFORM]
    command += ["--platform", "manylinux2014_x86_64", "--platform", "any"]
    subprocess.run([*command, "--dest", str(folder), *wanted], check=True)  # noqa: S603 - pip
    size = sum(path.stat().st_size for path in folder.glob("*.whl"))
    print(f"{len(wanted)} wheels, {size / 2**20:.0f} MiB, in {folder}")
    if size > MOST_BYTES:
        sys.exit(f"more than {MOST_BYTES / 2**20:.0f} MiB: take something out of packages.txt")


main(sys.argv[1], Path(sys.argv[2]))
