"""TensorRT's own libraries, which its Python bindings do not bring: which fit the bindings, and where they are kept.

PyPI has the bindings of every version, but its package of the libraries is a stub that takes them from NVIDIA's index.
The jars org.bytedeco:tensorrt in Maven repositories hold the same libraries, of some versions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local.builds.key import BuildKey
from atelier_engines.local.builds.manifest import BuildRefusedError
from atelier_engines.local.builds.store import BuildStore, HeldBuild

PACKAGE = "tensorrt-cu13-bindings"
"""The bindings for CUDA 13, which torch is built for."""
LIBRARIES_PACKAGE = "tensorrt_libs"
"""The module of the libraries from NVIDIA's index, which the bindings load by themselves."""
LIBRARY_PREFIXES = ("libnvinfer.so.", "libnvinfer_plugin.so.", "libnvonnxparser.so.")
"""How the names of the libraries begin that the bindings link to, in the order in which they are loaded.

They find that of the kernels, which is needed to compile alone, in their own directory."""

_FACTORS = (10_000, 100, 1)
"""Of major, minor and patch in the number that libnvinfer has as its version (NvInferVersion.h)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A version of TensorRT that bindings and a jar with the libraries exist of."""

    version: str
    """The version of the libraries."""
    bindings: str
    """The version of the bindings that fit."""
    jar_version: str
    """The version of org.bytedeco:tensorrt."""
    sha256: str
    """SHA-256 of the jar, in hexadecimal."""
    size: int
    """Bytes of the jar."""
    unpacked_size: int
    """Bytes of all its libraries, at most."""

    @property
    def jar(self) -> str:
        """The path of the jar in a Maven repository."""
        name = f"tensorrt-{self.jar_version}-linux-x86_64-redist.jar"
        return f"org/bytedeco/tensorrt/{self.jar_version}/{name}"

    @property
    def key(self) -> BuildKey:
        """What its libraries are kept by."""
        return BuildKey(
            network="libraries",
            weights=(self.sha256,),
            loras=(),
            settings="",
            precision="",
            shapes=(),
            device="Linux on x86-64",
            runtime="tensorrt",
            versions={"tensorrt": self.version},
            options={},
        )


RELEASES = (
    Release(
        version="11.2.1",
        bindings="11.2.1.2",
        jar_version="11.2-1.5.14",
        sha256="909dea6c768a0db60ab53d76d9f089c78cada1b55ad5d3d78b308b140f669f6d",
        size=556_440_161,
        unpacked_size=1_000_000_000,
    ),
    Release(
        version="10.15.1",
        bindings="10.15.1.29",
        jar_version="10.15-1.5.13",
        sha256="8543a6bda95c5d42141d409e1b74024b444e96334a3815d53997cc4ec3cfce83",
        size=533_640_349,
        unpacked_size=1_000_000_000,
    ),
)
"""All of TensorRT 10 and 11 that both exist of."""


def find_installed() -> Release:
    """The release of the bindings that are installed.

    Raises:
        EngineUnavailableError: none are, or others.
    """
    known = " or ".join(f"{PACKAGE}=={one.bindings}" for one in RELEASES)
    try:
        installed = version(PACKAGE)
    except PackageNotFoundError as error:
        raise EngineUnavailableError(
            f"{PACKAGE} is not installed: pip install 'atelier-engines[tensorrt]'"
        ) from error
    found = next((one for one in RELEASES if one.bindings == installed), None)
    if found is None:
        raise EngineUnavailableError(
            f"no jar has the libraries for {PACKAGE} {installed}: pip install {known}, or tensorrt from NVIDIA's index"
        )
    return found


def are_installed(directory: Path) -> bool:
    """Whether the libraries for the installed bindings are somewhere; reads none that was fetched.

    Args:
        directory: of builds.
    """
    return are_packaged() or are_fetched(directory) or _are_on_the_system()


def are_packaged() -> bool:
    """Whether the libraries are installed as a package, from NVIDIA's index."""
    return find_spec(LIBRARIES_PACKAGE) is not None


def are_fetched(directory: Path) -> bool:
    """Whether the libraries for the installed bindings are among the builds in a directory; reads none."""
    try:
        return find_installed().key.digest in BuildStore(directory=directory).digests()
    except EngineUnavailableError:
        return False


def open_fetched(directory: Path) -> HeldBuild | None:
    """Load the libraries for the installed bindings that were fetched into a directory of builds.

    Returns what keeps them from being removed; None where none were fetched.

    Raises:
        EngineUnavailableError: they are not what was fetched.
        OSError: they cannot be loaded.
    """
    try:
        held = BuildStore(directory=directory).hold(find_installed().key)
    except EngineUnavailableError:  # of another version, whose libraries are elsewhere
        return None
    except BuildRefusedError as error:
        raise EngineUnavailableError(
            f"the libraries of TensorRT are refused: {error}; run atelier build --fetch-tensorrt again"
        ) from error
    if held is not None:
        for path in _list_linked(held):
            # Not to all: TensorRT for RTX has the same names, and would call these.
            ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)
    return held


def require_equal_versions(bindings: str) -> None:
    """Return if the loaded libraries are of the version of the bindings.

    Args:
        bindings: their version, such as `11.2.1.2`.

    Raises:
        EngineUnavailableError: they are of another.
    """
    major, minor, patch = bindings.split(".")[:3]
    loaded = ctypes.CDLL(f"libnvinfer.so.{major}", mode=ctypes.RTLD_LOCAL).getInferLibVersion()
    wanted = sum(
        int(part) * factor for part, factor in zip((major, minor, patch), _FACTORS, strict=True)
    )
    if loaded != wanted:
        raise EngineUnavailableError(
            f"TensorRT's bindings are {bindings}, and its libraries have the number {loaded} and not {wanted}: "
            "install both of one version"
        )


def _are_on_the_system() -> bool:
    """Whether the loader finds them by their name, as Debian's packages have it or LD_LIBRARY_PATH says."""
    try:
        major = version(PACKAGE).split(".")[0]
        ctypes.CDLL(f"libnvinfer.so.{major}", mode=ctypes.RTLD_LOCAL)
    except (PackageNotFoundError, OSError):
        return False
    return True


def _list_linked(held: HeldBuild) -> Iterator[Path]:
    for prefix in LIBRARY_PREFIXES:
        for file in held.build.manifest.files:
            if file.name.startswith(prefix):
                yield held.build.folder / file.name
