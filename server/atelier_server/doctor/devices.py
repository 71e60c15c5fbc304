"""Checks the GPU, its driver, and whether PyTorch can use them.

PyTorch is asked in a process of its own: importing it takes seconds and memory, and a broken one may end the process.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from atelier_server.doctor.findings import Finding, failure, ok, warning
from atelier_server.doctor.installation import missing_local_packages

_TIMEOUT_SECONDS = 120.0
_PROBE = """
import json, torch
count = torch.cuda.device_count()
print(json.dumps({"version": torch.__version__, "cuda": torch.version.cuda or "",
                  "devices": [torch.cuda.get_device_name(i) for i in range(count)]}))
"""
INSTALL_LOCAL = "pip install 'atelier-server[local]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchBuild:
    """What PyTorch says about itself."""

    version: str
    cuda: str
    """The version of CUDA that it was built for; empty for a build without."""
    devices: tuple[str, ...]
    """Names of the CUDA devices that it can use."""


def check_devices(*, needs_local: bool) -> Iterator[Finding]:
    """The GPU and its driver; and PyTorch, if a local engine needs it."""
    driver = _run("nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.free")
    cards = driver.splitlines()
    for card in cards:
        name, number, total, free = [part.strip() for part in card.split(",")]
        yield ok("gpu", f"{name}, {free} of {total} free, driver {number}")
    if needs_local:
        yield _check_torch(cards)


def _check_torch(cards: list[str]) -> Finding:
    """Whether PyTorch and all that local engines need with it is there, and fits the driver."""
    missing = missing_local_packages()
    if missing:
        return failure("pytorch", f"not installed: {', '.join(missing)}", INSTALL_LOCAL)
    build = probe_torch()
    return (
        failure("pytorch", build, INSTALL_LOCAL)
        if isinstance(build, str)
        else _compare(build, cards)
    )


def probe_torch() -> TorchBuild | str:
    """What PyTorch says about itself; a text where it cannot be imported."""
    try:
        ended = subprocess.run(  # noqa: S603 - this Python with a program of ours
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"PyTorch was not imported within {_TIMEOUT_SECONDS:.0f} s"
    if ended.returncode:
        lines = ended.stderr.strip().splitlines()
        return f"PyTorch cannot be imported: {lines[-1] if lines else ended.returncode}"
    said = json.loads(ended.stdout.splitlines()[-1])
    return TorchBuild(version=said["version"], cuda=said["cuda"], devices=tuple(said["devices"]))


def _compare(build: TorchBuild, cards: list[str]) -> Finding:
    """Whether PyTorch and the driver match."""
    about = (
        f"PyTorch {build.version}, {f'CUDA {build.cuda}' if build.cuda else 'built without CUDA'}"
    )
    if build.devices:
        return ok("pytorch", f"{about}, uses {', '.join(build.devices)}")
    if not cards:
        return ok("pytorch", f"{about}; no NVIDIA GPU here, local engines run on the CPU")
    if not build.cuda:
        return warning(
            "pytorch", f"{about}: it cannot use the GPU", "pip install --force-reinstall torch"
        )
    return failure(
        "pytorch",
        f"{about}: it cannot use the GPU; the driver supports CUDA {_read_driver_cuda()}",
        f"update the NVIDIA driver to one for CUDA {build.cuda}, or install a PyTorch for an older CUDA",
    )


def _read_driver_cuda() -> str:
    found = re.search(r"CUDA Version: (\S+)", _run("nvidia-smi"))
    return found[1] if found else "of an unknown version"


def _run(program: str, query: str = "") -> str:
    """What a program prints; nothing where it is not installed or fails."""
    path = shutil.which(program)
    if path is None:
        return ""
    command = [path, query, "--format=csv,noheader"] if query else [path]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 - the driver's program
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if ended.returncode else ended.stdout.strip()
