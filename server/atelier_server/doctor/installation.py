"""Checks the Python and the packages that the server runs with."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from atelier_server.doctor.findings import Finding, failure, ok, warning

_DISTRIBUTIONS = ("atelier-client", "atelier-engines", "atelier-server")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def check_installation() -> Iterator[Finding]:
    """Python, our distributions, and the packages that they depend on."""
    yield ok("python", f"{platform.python_version()} on {platform.platform(terse=True)}")
    versions = {name: version(name) for name in _DISTRIBUTIONS}
    listed = ", ".join(f"{name} {number}" for name, number in versions.items())
    if len(set(versions.values())) > 1:
        remedy = "pip install --upgrade atelier-server"
        yield warning("packages", f"of different versions: {listed}", remedy)
    else:
        yield ok("packages", listed)
    for name in sorted({need for owner in _DISTRIBUTIONS for need in _dependencies(owner)}):
        if not _is_installed(name):
            yield failure("packages", f"{name} is not installed", f"pip install {name}")


def missing_local_packages() -> list[str]:
    """The packages of the extra `local` that are not installed."""
    return [name for name in _dependencies("atelier-engines", "local") if not _is_installed(name)]


def _dependencies(owner: str, extra: str = "") -> Iterator[str]:
    """The names that a distribution depends on, or those of one of its extras."""
    for requirement in requires(owner) or ():
        name, _, marker = requirement.partition(";")
        if (f"'{extra}'" in marker.replace('"', "'")) if extra else not marker:
            yield _NAME.match(name)[0]  # type: ignore[index]  # a requirement begins with a name


def _is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False
