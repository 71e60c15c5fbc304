"""The results of a batch, one JSON object a line, written as they come; a later run continues from them."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from atelier_client.cli.batch_items import BatchItem

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
    """succeeded or failed."""
    engine: str = ""
    seeds: tuple[int, ...] = ()
    files: tuple[str, ...] = ()
    """Names in the folder of the batch."""
    cost: float = 0.0
    currency: str = ""
    error: str = ""


class BatchManifest:
    """The results in a folder, those of earlier runs included."""

    def __init__(self, folder: Path) -> None:
        """Read the results of earlier runs, or begin a new batch.

        Raises:
            click.UsageError: the file has been damaged, or cannot be written.
        """
        self.folder = folder
        self._path = folder / NAME
        self._results: dict[int, BatchResult] = {}
        self._attempts = Counter[str]()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not self._path.exists():
                self._append({"batch": secrets.token_hex(8)})
            head, *lines = map(json.loads, self._path.read_text(encoding="utf-8").splitlines())
            self._batch = str(head["batch"])
            for line in lines:
                self._remember(BatchResult(**line))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise click.UsageError(f"cannot continue from {self._path}: {error}") from error

    def find_success(self, item: BatchItem) -> BatchResult | None:
        """The result of the task, if it has succeeded and its files are there."""
        result = self._results.get(item.number)
        if result is None or result.digest != item.digest or result.state != "succeeded":
            return None
        return result if all((self.folder / name).exists() for name in result.files) else None

    def make_request_id(self, item: BatchItem) -> str:
        """The id under which the server runs the task once; another one after a failure."""
        return f"batch-{self._batch}-{item.number}-{item.digest}-{self._attempts[item.digest]}"

    def add(self, result: BatchResult) -> None:
        """Write a result."""
        self._append(asdict(result))
        self._remember(result)

    def _append(self, line: object) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _remember(self, result: BatchResult) -> None:
        self._results[result.number] = result
        self._attempts[result.digest] += 1
