"""Gives unused pages of a file back, a few in each transaction."""

from __future__ import annotations

import sqlite3

_MAX_PAGES = 30
_RESERVE_PAGES = 1024  # unused pages that the file keeps, 4 MiB
_RESERVE_SHARE = (
    4  # or as many of all as one in so many, if that is more: a file that shrinks grows again
)


def shrink(db: sqlite3.Connection) -> bool:
    """Give some unused pages back to the file system; returns whether more are to be given back."""
    unused, total = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("freelist_count", "page_count")
    )
    excess = unused - max(_RESERVE_PAGES, total // _RESERVE_SHARE)
    for _ in range(min(excess, _MAX_PAGES)):
        db.execute("PRAGMA incremental_vacuum(1)")  # Python runs it only as far as its first page
    return excess > _MAX_PAGES
