"""The files of the playground, a page that the build of clients/playground puts beside this package."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parents[2] / "playground"
_INDEX = "index.html"
_HASHED = "assets/"  # files whose names change with their content
_POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"),
        *("img-src 'self' blob:", "media-src blob:", "base-uri 'none'", "form-action 'none'"),
        "frame-ancestors 'none'",
    )
)
"""Nothing is asked of another host, and no script runs that is not one of the files."""
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
MISSING = (
    "The playground, a page to try the engines, is not part of this installation: its build needs Node 20.19 or later. "
    "In a clone of the repository, install Node and run `make install`.\n"
)
"""What `/` says where the page has not been built."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]


def read_page(folder: Path = _FOLDER) -> Mapping[str, PageFile]:
    """The files of the page by their paths, `/` among them; none if the page has not been built."""
    if not (folder / _INDEX).is_file():
        return {}
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    files = {f"/{name}": _read(folder, name) for name in names}
    return {**files, "/": files[f"/{_INDEX}"]}


def _read(folder: Path, name: str) -> PageFile:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    lasts = "public, max-age=31536000, immutable" if name.startswith(_HASHED) else "no-cache"
    kept = ((b"content-type", kind.encode()), (b"cache-control", lasts.encode()))
    return PageFile((folder / name).read_bytes(), (*kept, *_HEADERS))
