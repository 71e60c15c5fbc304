"""The results of a batch, one JSON object a line, written as they come; a later run continues from them."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import click

from atelier_client.cli.batch_items import BatchItem
from atelier_client.cli.file_locks import FileLockedError, lock_file

NAME = "results.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """How one task ended."""

    number: int
    digest: str
    """That of the task, see `BatchItem.digest`."""
    prompt: str
    id: str = ""
    """That of the generation."""
    state: str
    """succeeded, failed, or unfinished: it may still run at the server, or is made there but not saved here."""
    engine: str = ""
    seeds: tuple[int, ...] = ()
    files: tuple[str, ...] = ()
    """Names in the folder of the batch."""
    cost: float = 0.0
    currency: str = ""
    error: str = ""


class BatchManifest:
    """The results in a folder, those of earlier runs included; a context manager, as which one run has it alone."""

    def __init__(self, folder: Path) -> None:
        """Read the results of earlier runs, or begin a new batch.

        Raises:
            click.UsageError: the file has been damaged, cannot be written, or another run is writing it. A last line
                that an interruption cut is no damage.
        """
        self.folder = folder
        self._path = folder / NAME
        self._results: dict[tuple[int, str], BatchResult] = {}
        self._attempts = Counter[str]()
        self._lock: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock_file(self._path)
            self._read()
        except FileLockedError as error:
            raise click.UsageError(
                f"another run writes {self._path}: wait for its end, or name another folder with --output"
            ) from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            self._close()
            raise click.UsageError(f"cannot continue from {self._path}: {error}") from error

    def __enter__(self) -> Self:
        """The results."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let other runs have the folder."""
        self._close()

    def find_success(self, item: BatchItem) -> BatchResult | None:
        """The result of the task, if it has succeeded and its files are there."""
        result = self._results.get((item.number, item.digest))
        if result is None or result.state != "succeeded":
            return None
        return result if all((self.folder / name).exists() for name in result.files) else None

    def has_file_of_another(self, item: BatchItem, name: str) -> bool:
        """Whether a file of that name, numbered or not, is of another task: of an edited one, or of another FILE."""
        pattern = re.compile(rf"{re.escape(name)}(-\d+)?")
        return any(
            pattern.fullmatch(Path(file).stem)
            for key, result in self._results.items()
            if key != (item.number, item.digest)
            for file in result.files
        )

    def make_request_id(self, item: BatchItem) -> str:
        """The id under which the server runs the task once; another one after it has ended there."""
        return f"batch-{self._batch}-{item.number}-{item.digest}-{self._attempts[item.digest]}"

    def add(self, result: BatchResult) -> None:
        """Write a result.

        Raises:
            click.ClickException: it cannot be written.
        """
        try:
            self._append(asdict(result))
        except OSError as error:
            raise click.ClickException(f"cannot write {self._path}: {error.strerror}") from error
        self._remember(result)

    def _read(self) -> None:
        if not self._read_lines():
            self._append({"batch": secrets.token_hex(8)})
        head, *lines = map(json.loads, self._read_lines())
        self._batch = str(head["batch"])
        for line in lines:
            if "batch" not in line:  # two runs of an earlier version could begin at the same time
                self._remember(BatchResult(**line))

    def _close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _read_lines(self) -> list[bytes]:
        """The lines in the file, none if there is none; a last line without its end is cut off."""
        if not self._path.exists():
            return []
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self._path, len(whole))
        return whole.splitlines()

    def _append(self, line: object) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _remember(self, result: BatchResult) -> None:
        for key, other in tuple(self._results.items()):
            if set(other.files) & set(result.files):  # overwritten, as earlier versions did
                del self._results[key]
        self._results[result.number, result.digest] = result
        self._attempts[result.digest] += result.state != "unfinished"
