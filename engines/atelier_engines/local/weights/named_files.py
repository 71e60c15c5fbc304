"""Files of weights that callers select by name, such as LoRAs: configured one by one, or found in a directory."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import addresses, sources
from atelier_engines.local.weights.addresses import AddressCache

_SUFFIX = sources.SAFETENSORS_SUFFIX
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """A kind of such files."""

    title: str
    """What one is called in messages: LoRA, for instance."""
    usual_file: str
    """The file in the directory of one, as diffusers names it."""


def find_file(folder: Path, kind: FileKind) -> Path | None:
    """Find the file in a directory: the one with diffusers' name, else the only one."""
    if (folder / kind.usual_file).is_file():
        return folder / kind.usual_file
    found = list(folder.glob(f"*{_SUFFIX}"))
    return found[0] if len(found) == 1 else None


def is_name(name: str) -> bool:
    """Whether callers can use a name of that text; file systems allow names that are not Unicode."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def list_directory(directory: Path, kind: FileKind) -> Mapping[str, str]:
    """Paths by name: files by their stem, and directories that contain one; empty if there is no such directory.

    Files whose names are not Unicode are left out; see `log_unnamed`.
    """
    found = _list_files(directory, kind).items()
    return {name: str(path) for name, path in found if is_name(name)}


def log_unnamed(directory: Path, kind: FileKind) -> None:
    """Write to the log which files in a directory are not offered because of their names."""
    for name, path in _list_files(directory, kind).items():
        if not is_name(name):
            _log.warning(
                "file_not_offered",
                extra={
                    "kind": kind.title,
                    "file": ascii(path.name),
                    "reason": "its name is not UTF-8; rename it",
                },
            )


def _list_files(directory: Path, kind: FileKind) -> Mapping[str, Path]:
    if not directory.is_dir():  # said at the start
        return {}
    found: dict[str, Path] = {}
    for path in sorted(directory.iterdir()):
        if path.is_dir() and find_file(path, kind) is not None:
            found[path.name] = path
        elif path.suffix == _SUFFIX and path.is_file():
            found[path.stem] = path
    return found


def resolve(
    name: str,
    source: str,
    kind: FileKind,
    *,
    download: bool,
    cache: AddressCache | None = None,
) -> Path:
    """The file of that name.

    Args:
        name: its name, for messages.
        source: a path, a hub id, or where there is a cache an address, as configured.
        kind: its kind.
        download: whether what is not in the local cache may be downloaded.
        cache: where what has an address is kept.

    Raises:
        ModelMissingError: there is none, or it is not a safetensors file.
    """
    if cache is not None and addresses.is_address(source):
        return addresses.fetch(source, cache, download=download)
    hub = sources.parse_hub_reference(source)
    if hub is not None and hub.file is None:
        source = f"{source}/{kind.usual_file}"
    try:
        path = sources.resolve_component(source, "", download=download)
    except ModelMissingError as error:
        raise ModelMissingError(f"the {kind.title} {name}: {error}") from error
    if path.is_file():
        return path
    found = find_file(path, kind)
    if found is None:
        raise ModelMissingError(
            f"the {kind.title} {name}: {path} holds neither {kind.usual_file} nor exactly one "
            f"{_SUFFIX} file; name the file"
        )
    return found
