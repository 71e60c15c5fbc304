"""Fetches TensorRT's libraries from a Maven repository into a directory of builds. Imports no torch."""

from __future__ import annotations

import hashlib
import re
import shutil
import ssl
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import httpx2

from atelier_engines.diffusion.runtimes.tensorrt.releases import LIBRARY_PREFIXES, Release
from atelier_engines.errors import EngineFailedError
from atelier_engines.local.builds import manifest as manifests
from atelier_engines.local.builds.manifest import BuildRefusedError, Manifest
from atelier_engines.local.builds.store import BuildStore, HeldBuild
from atelier_engines.local.downloads import open_download

Report = Callable[[str], None]
"""Told each step, in words for people."""

_FOLDER = "org/bytedeco/tensorrt/linux-x86_64/"
_LIBRARY = re.compile(r"lib[a-z_]+\.so\.[0-9.]+")
_PARTIAL_CONTENT = 206
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What zipfile raises for archives that are damaged, encrypted, or packed in other ways."""
_STEPS = 10
"""How often a download is reported."""


def fetch(
    release: Release,
    repository: str,
    store: BuildStore,
    report: Report,
    *,
    certificates: ssl.SSLContext | None = None,
) -> None:
    """Have the libraries of a release in the store, unless they are there and unchanged.

    One process fetches them at a time; others wait. A download that ends early is continued by the next call.

    Args:
        release: which ones.
        repository: an https address, or a directory, that is laid out as Maven repositories are.
        store: where they are kept.
        report: told each step.
        certificates: whom to trust; None for those of the system.

    Raises:
        EngineFailedError: the jar is not there, cannot be downloaded, or is another one.
        OSError: the disk is full, or the directory cannot be written to.
    """
    with store.turn(release.key, lambda: report("waiting for another process to fetch them")):
        held = _find(release, store, report)
        if held is not None:
            held.release()
            report("already there")
            return
        began = time.monotonic()
        with _open_jar(release, repository, store, report, certificates) as jar:
            report("unpacking")
            _unpack_into(store, release, jar, began)
        store.partial_file(release.key).unlink(missing_ok=True)
        report(f"fetched in {time.monotonic() - began:.1f} s")


def unpack(jar: IO[bytes], release: Release, folder: Path) -> tuple[str, ...]:
    """Write the libraries in a jar into a directory, and nothing else of it; returns their names in order of loading.

    Raises:
        EngineFailedError: it is damaged, too large, or lacks one.
        OSError: they cannot be written.
    """
    left = release.unpacked_size
    try:
        with zipfile.ZipFile(jar) as archive:
            members = list(_list_libraries(archive))
            for name, member in members:
                left -= member.file_size
                if left < 0:
                    raise EngineFailedError(
                        f"the libraries in the jar have more than {release.unpacked_size} bytes"
                    )
                with archive.open(member) as source, (folder / name).open("xb") as target:
                    shutil.copyfileobj(source, target)  # as many bytes as the archive says
    except _BROKEN as error:
        raise EngineFailedError(f"the jar cannot be unpacked: {error}") from error
    names = sorted(name for name, _ in members)
    first = [_find_name(names, prefix) for prefix in LIBRARY_PREFIXES]
    return (*first, *(name for name in names if name not in first))


def _find(release: Release, store: BuildStore, report: Report) -> HeldBuild | None:
    try:
        return store.hold(release.key)
    except BuildRefusedError as error:
        report(f"fetching them anew, since {error}")
        return None


def _unpack_into(store: BuildStore, release: Release, jar: IO[bytes], began: float) -> None:
    with store.writing(release.key) as folder:
        names = unpack(jar, release, folder)
        store.keep(
            folder,
            Manifest(
                key=release.key,
                files=manifests.describe_files(folder, names),
                deviations=(),
                tolerance=None,
                built_at=datetime.now(UTC).isoformat(timespec="seconds"),
                seconds=round(time.monotonic() - began, 3),
            ),
        )


@contextmanager
def _open_jar(
    release: Release,
    repository: str,
    store: BuildStore,
    report: Report,
    certificates: ssl.SSLContext | None,
) -> Iterator[IO[bytes]]:
    """The jar, whose bytes have the digest."""
    if repository.startswith(("https://", "http://")):
        path, source = store.partial_file(release.key), f"{repository.rstrip('/')}/{release.jar}"
        _download(source, path, release, report, certificates)
    else:
        path = Path(repository).expanduser() / release.jar
        source = str(path)
    if not path.is_file():
        raise EngineFailedError(
            f"there is no {path}: put it there with mvn dependency:get "
            f"-Dartifact=org.bytedeco:tensorrt:{release.jar_version}:jar:linux-x86_64-redist -Dtransitive=false"
        )
    with path.open("rb") as jar:
        report("checking")
        found = hashlib.file_digest(jar, "sha256").hexdigest()
        if found != release.sha256:
            store.partial_file(release.key).unlink(missing_ok=True)
            raise EngineFailedError(
                f"{source} has the SHA-256 {found} and not {release.sha256}; nothing of it was kept"
            )
        yield jar


def _download(
    url: str,
    path: Path,
    release: Release,
    report: Report,
    certificates: ssl.SSLContext | None,
) -> None:
    """Write the rest of the jar to a file that may have its beginning."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done = path.stat().st_size if path.exists() else 0
    if done == release.size:
        return
    if done > release.size:
        done = 0
    asked = {"Range": f"bytes={done}-"} if done else {}
    try:
        _require_https(url)
        with open_download(
            url,
            require=_require_https,
            certificates=certificates,
            headers={"Accept-Encoding": "identity", **asked},
        ) as response:
            _write(response, path, done, release, report)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        kept = path.stat().st_size if path.exists() else 0
        raise EngineFailedError(
            f"{url} cannot be downloaded: {error}; {kept} of {release.size} bytes are here, "
            "and the same command continues"
        ) from error


def _write(
    response: httpx2.Response, path: Path, done: int, release: Release, report: Report
) -> None:
    """Append the response to a file, or replace it where the response is the whole jar.

    Raises:
        ValueError: it is no such response.
    """
    if not response.is_success:
        raise ValueError(f"{response.status_code} {response.reason_phrase}")
    if response.status_code != _PARTIAL_CONTENT:
        done = 0
    elif not response.headers.get("content-range", "").startswith(f"bytes {done}-"):
        raise ValueError("another part than was asked for is sent")
    with path.open("r+b" if done else "wb") as file:
        file.seek(done)
        for chunk in response.iter_raw():
            before, done = done, done + len(chunk)
            if done > release.size:
                path.unlink()
                raise ValueError(f"it has more than {release.size} bytes")
            file.write(chunk)
            if before * _STEPS // release.size != done * _STEPS // release.size:
                report(f"downloading: {100 * done // release.size} %")
    if done < release.size:
        raise ValueError("it ends early")


def _require_https(url: str) -> None:
    if not url.startswith("https://"):
        raise ValueError(f"{url} is not https")


def _list_libraries(archive: zipfile.ZipFile) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """The libraries in it, by their names alone: no path in an archive is followed."""
    for member in archive.infolist():
        folder, name = member.filename[: len(_FOLDER)], member.filename[len(_FOLDER) :]
        if folder == _FOLDER and _LIBRARY.fullmatch(name):
            yield name, member


def _find_name(names: list[str], prefix: str) -> str:
    found = [name for name in names if name.startswith(prefix)]
    if len(found) != 1:
        raise EngineFailedError(f"the jar has no {prefix.removesuffix('.')}, or several")
    return found[0]
