"""Counts commits in the database and in a file beside it, so that a start notices which of them are lost.

SQLite reads its write-ahead log up to the first damaged frame and drops the rest without a word: the database is as it
was some commits ago. So each commit writes a running count, and the file beside the database says how far it came.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)
_COUNT = struct.Struct("<16sQQ")
_CHECKSUM = struct.Struct("<I")
_ADVICE = (
    "the -wal file was damaged, cut or removed, or an older copy of the database was put in place: what was accepted "
    "or finished in the lost transactions is unknown to this server; restore a newer copy, or have callers try again"
)


@dataclass(frozen=True, slots=True)
class Committed:
    """How far the commits of a database came."""

    file: bytes
    """Identifies the database, 16 bytes: the count of another one says nothing."""
    transactions: int
    """Transactions that changed something, since the database was made."""
    generations: int
    """Generations that were accepted, since the database was made."""


class CommitCount:
    """The count in the file beside one database. Only the thread that writes the database may use it."""

    def __init__(self, path: Path) -> None:
        """Open or create the file.

        Raises:
            OSError: it can't be opened for writing.
        """
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def check(self, connection: sqlite3.Connection) -> None:
        """Log how many commits the database lacks, if any; from now on the file agrees with it."""
        recovered, expected = _read(connection), self._read_file()
        if (
            expected is not None
            and expected.file == recovered.file
            and expected.transactions > recovered.transactions
        ):
            fields = {
                "expected_transactions": expected.transactions,
                "recovered_transactions": recovered.transactions,
                "expected_generations": expected.generations,
                "recovered_generations": recovered.generations,
                "advice": _ADVICE,
            }
            _log.error("database_transactions_lost", extra=fields)
        self.write(recovered)

    def count(self, connection: sqlite3.Connection) -> Committed:
        """Count the transaction that is under way, in the database; returns what to `write` when it is committed."""
        connection.execute("UPDATE commits SET transactions = transactions + 1 WHERE id = 1")
        return _read(connection)

    def write(self, committed: Committed) -> None:
        """Write how far the commits came into the file; a fault of the disk only leaves it too low."""
        count = _COUNT.pack(committed.file, committed.transactions, committed.generations)
        with suppress(OSError):
            os.pwrite(self._file, count + _CHECKSUM.pack(zlib.crc32(count)), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _read_file(self) -> Committed | None:
        """The count of the file; None if it has none yet, or is damaged."""
        data = os.pread(self._file, _COUNT.size + _CHECKSUM.size, 0)
        count = data[: _COUNT.size]
        if len(data) < _COUNT.size + _CHECKSUM.size:
            return None
        if _CHECKSUM.unpack(data[_COUNT.size :]) != (zlib.crc32(count),):
            return None
        return Committed(*_COUNT.unpack(count))


def _read(connection: sqlite3.Connection) -> Committed:
    query = "SELECT file, transactions, generations FROM commits WHERE id = 1"
    return Committed(*connection.execute(query).fetchone())
