"""Keeps builds in a directory, each in its own, named by the digest of its key."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atelier_engines.errors import EngineUnavailableError
from atelier_engines.local.builds import manifest as manifests
from atelier_engines.local.builds.key import BuildKey
from atelier_engines.local.builds.locks import SharedLock, alone, alone_or_not
from atelier_engines.local.builds.manifest import BuildRefusedError, Manifest
from atelier_engines.local.weights import digests

_DEFAULT_DIRECTORY = "~/.cache/atelier/builds"

_DIGEST = re.compile("[0-9a-f]{64}")
_UNFINISHED = ".unfinished-"
_REMOVED = ".removed-"
_PARTIAL = ".partial-"
_LOCKS = "locks"
_READ_ONLY = (errno.EROFS, errno.EACCES)


def find_directory(configured: Path | None) -> Path:
    """Where builds are kept if a configuration says this.

    Raises:
        EngineUnavailableError: it does not say, and this user has no home.
    """
    try:
        return configured or Path(_DEFAULT_DIRECTORY).expanduser()
    except RuntimeError as error:  # users of containers may have none
        raise EngineUnavailableError(
            "builds have no place, since this user has no home directory: set builds_directory"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A build whose files were what its manifest says when it was found."""

    folder: Path
    """Its directory."""
    manifest: Manifest
    """What it is."""

    @property
    def path(self) -> Path:
        """The file to open."""
        return self.folder / self.manifest.files[0].name

    @property
    def size_bytes(self) -> int:
        """Size of all its files."""
        return sum(file.size for file in self.manifest.files)


class HeldBuild:
    """A build that nobody removes until `release`, or until nobody refers to this."""

    def __init__(self, build: Build, lock: SharedLock | None) -> None:
        self.build = build
        self._lock = lock
        self._verified = True

    def require(self) -> Path:
        """The file to open; all files are read again, but for the first call.

        Raises:
            BuildRefusedError: the files have changed since.
        """
        if not self._verified:
            self.build = verify(self.build.folder)
        self._verified = False
        return self.build.path

    def release(self) -> None:
        """Let it be removed."""
        if self._lock is not None:
            self._lock.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStore:
    """See the module. Several processes may use one directory at once."""

    directory: Path
    """Where the builds are; made when the first is written."""

    def hold(self, key: BuildKey) -> HeldBuild | None:
        """The build of that key; None if there is none. All its bytes are read.

        Raises:
            BuildRefusedError: there are files in its place that are not such a build.
            OSError: the directory cannot be read or written to.
        """
        folder = self._folder(key)
        if not folder.exists():
            return None
        lock = self._hold(key.digest)
        try:
            return HeldBuild(verify(folder), lock)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    def _hold(self, digest: str) -> SharedLock | None:
        """A lock on its removal; None where nobody here may remove it, as on a file system that is read-only."""
        try:
            return SharedLock(self._lock("use", digest))
        except OSError as error:
            if error.errno in _READ_ONLY:
                return None
            raise

    @contextmanager
    def turn(self, key: BuildKey, on_wait: Callable[[], None]) -> Iterator[None]:
        """While this lasts, nobody else builds the same; waits for whoever does.

        Raises:
            OSError: the directory cannot be written to.
        """
        with alone(self._lock("build", key.digest), on_wait):
            yield

    @contextmanager
    def writing(self, key: BuildKey) -> Iterator[Path]:
        """An empty directory for the files of a build; to be used inside `turn`. It is removed at the end.

        Raises:
            OSError: it cannot be made.
        """
        folder = self.directory / f"{_UNFINISHED}{key.digest}"
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
        folder.mkdir(parents=True, mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def partial_file(self, key: BuildKey) -> Path:
        """The file for what a build is made from and is still being downloaded; to be used inside `turn`.

        It stays where a download ends early, so that the next one continues it. Whoever is done removes it; `prune`
        does, too.
        """
        return self.directory / f"{_PARTIAL}{key.digest}"

    def keep(self, written: Path, manifest: Manifest) -> None:
        """Make what was written in a directory of `writing` the build of its key, in place of any other.

        Raises:
            OSError: the disk is full, or the directory cannot be written to; the build is not there then.
        """
        (written / manifests.NAME).write_text(manifests.encode(manifest), "utf-8")
        for path in (*written.iterdir(), written):
            _sync(path)
        folder = self._folder(manifest.key)
        self._remove(folder)
        written.rename(folder)
        _sync(self.directory)

    def digests(self) -> tuple[str, ...]:
        """The digests of the keys of everything that is there, valid or not; sorted."""
        if not self.directory.is_dir():
            return ()
        names = (path.name for path in self.directory.iterdir())
        return tuple(sorted(name for name in names if _DIGEST.fullmatch(name)))

    def verify(self, digest: str) -> Build:
        """The build with a key of that digest; all its bytes are read.

        Raises:
            BuildRefusedError: it is not what its manifest says.
        """
        return verify(self.directory / digest)

    def describe(self, digest: str) -> Build:
        """The same, by its manifest alone: the bytes of its files are not read.

        Raises:
            BuildRefusedError: there is no valid manifest.
        """
        folder = self.directory / digest
        return Build(folder=folder, manifest=_read_manifest(folder))

    def prune(self, keep: Collection[str]) -> Iterator[str]:
        """Remove every build whose digest is not among these, and what killed builders left.

        What a process is building or holds stays. Yields the digest of each that was removed.

        Raises:
            OSError: something cannot be removed.
        """
        for digest in self.digests():
            if digest not in keep and self._remove_unused(digest):
                yield digest
        for path in self._list_leftovers():
            with alone_or_not(self._lock("build", path.name[-64:])) as free:
                if free:
                    _remove_leftover(path)

    def _remove_unused(self, digest: str) -> bool:
        with (
            alone_or_not(self._lock("build", digest)) as unbuilt,
            alone_or_not(self._lock("use", digest)) as unused,
        ):
            if unbuilt and unused:
                self._remove(self.directory / digest)
            return unbuilt and unused

    def _remove(self, folder: Path) -> None:
        """Remove a build; nobody finds half of it meanwhile."""
        if not folder.exists() and not folder.is_symlink():
            return
        aside = folder.with_name(f"{_REMOVED}{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        _remove_leftover(aside)

    def _list_leftovers(self) -> tuple[Path, ...]:
        if not self.directory.is_dir():
            return ()
        return tuple(
            path
            for path in self.directory.iterdir()
            if path.name.startswith((_UNFINISHED, _REMOVED, _PARTIAL))
        )

    def _folder(self, key: BuildKey) -> Path:
        return self.directory / key.digest

    def _lock(self, purpose: str, digest: str) -> Path:
        return self.directory / _LOCKS / f"{digest}.{purpose}"


def verify(folder: Path) -> Build:
    """The build in a directory, if every byte is what its manifest says.

    Raises:
        BuildRefusedError: it is not; the message names the file.
    """
    try:
        return _verify(folder)
    except OSError as error:
        raise BuildRefusedError(f"{folder} cannot be read: {error.strerror}") from error


def _verify(folder: Path) -> Build:
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise BuildRefusedError(f"{folder} is not a directory")
    for place in (folder, folder.parent):
        if place.stat().st_mode & stat.S_IWOTH:
            raise BuildRefusedError(f"{place} may be written to by everyone")
    found = _read_manifest(folder)
    names = {manifests.NAME, *(file.name for file in found.files)}
    for path in sorted(folder.iterdir()):
        if path.name not in names:
            raise BuildRefusedError(f"{path} is not in the manifest")
    for file in found.files:
        _verify_file(folder / file.name, file)
    return Build(folder=folder, manifest=found)


def _read_manifest(folder: Path) -> Manifest:
    found = manifests.read(folder / manifests.NAME)
    if found.key.digest != folder.name:
        raise BuildRefusedError(f"{folder / manifests.NAME} is that of another build")
    return found


def _verify_file(path: Path, expected: manifests.BuiltFile) -> None:
    try:
        status = path.lstat()
    except FileNotFoundError as error:
        raise BuildRefusedError(f"{path} is absent") from error
    if not stat.S_ISREG(status.st_mode):
        raise BuildRefusedError(f"{path} is not a plain file")
    if status.st_size != expected.size:
        raise BuildRefusedError(f"{path} has {status.st_size} bytes and not {expected.size}")
    if digests.digest_file(path) != expected.sha256:
        raise BuildRefusedError(f"{path} is damaged: its digest is not that of the manifest")


def _remove_leftover(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
