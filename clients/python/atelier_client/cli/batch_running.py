"""Runs the tasks of a batch, several at a time, within a limit of cost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from atelier_client.cli.batch_items import BatchItem
from atelier_client.cli.batch_manifest import BatchManifest, BatchResult
from atelier_client.cli.follow import follow_to_end
from atelier_client.cli.output_files import save_outputs
from atelier_client.cli.output_names import Target, slugify
from atelier_client.cli.progress import NullDisplay
from atelier_client.cli.submit import submit_when_loaded
from atelier_client.errors import AtelierError, ConflictError, NotFoundError
from atelier_client.results import Generation
from atelier_client.tasks import RequestKeywords

if TYPE_CHECKING:
    from atelier_client.client import Client


@dataclass(slots=True, kw_only=True)
class Spending:
    """What a batch has cost, and what its running tasks are planned to cost; threads share it."""

    limit: float | None
    """Most that it may cost; None for no limit."""
    spent: float = 0.0
    reserved: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reserve(self, amount: float) -> bool:
        """Reserve the planned cost of a task; False if the limit does not allow it."""
        with self._lock:
            if self.limit is not None and self.spent + self.reserved + amount > self.limit:
                return False
            self.reserved += amount
            return True

    def settle(self, planned: float, actual: float) -> None:
        """Replace the planned cost of a task by the actual one."""
        with self._lock:
            self.reserved -= planned
            self.spent += actual


@dataclass(slots=True, kw_only=True)
class BatchRun:
    """One run of the tasks that are left."""

    client: Client
    manifest: BatchManifest
    spending: Spending
    keywords: RequestKeywords
    """For every task, beside its engine."""
    report: Callable[[BatchItem, BatchResult | None], None]
    """Is told how each task ended; None if the limit of cost does not allow it."""
    _stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, items: Sequence[BatchItem], concurrency: int) -> None:
        """Run the tasks to their ends.

        Raises:
            KeyboardInterrupt: it was interrupted; what was submitted goes on at the server.
        """
        with ThreadPoolExecutor(max_workers=concurrency) as executor:
            futures = {executor.submit(self._run_item, item): item for item in items}
            try:
                for future in as_completed(futures):
                    result = future.result()
                    if result is not None:
                        self.manifest.add(result)
                    self.report(futures[future], result)
            except BaseException:
                self._stopped.set()
                executor.shutdown(wait=False, cancel_futures=True)
                self.client.close()
                raise

    def _run_item(self, item: BatchItem) -> BatchResult | None:
        keywords = self.keywords.copy()
        keywords["engine"] = item.engine
        keywords["request_id"] = self.manifest.make_request_id(item)
        planned, accepted_id, made = 0.0, "", None
        try:
            if self.spending.limit is not None:
                planned = self._plan_cost(item, keywords)
                if not self.spending.reserve(planned):
                    return None
            accepted_id = submit_when_loaded(self.client, item.task, keywords).id
            made = follow_to_end(self.client, accepted_id, NullDisplay(), fetch=True)
            files = save_outputs(made, self._name_target(item))
        except AtelierError as error:
            self.spending.settle(planned, _get_cost(made))
            state = "failed" if made is None and _is_over(error) else "unfinished"
            return _describe(item, made, state, error=str(error), generation_id=accepted_id)
        self.spending.settle(planned, _get_cost(made))
        return _describe(item, made, "succeeded", files=files)

    def _plan_cost(self, item: BatchItem, keywords: RequestKeywords) -> float:
        cost = self.client.plan(item.task, **keywords).cost
        return 0.0 if cost is None else cost.amount

    def _name_target(self, item: BatchItem) -> Target:
        folder = str(self.manifest.folder).replace("{", "{{").replace("}", "}}")
        name = f"{item.number:04}-{slugify(item.label or item.task.prompt)}"
        if self.manifest.has_file_of_another(item, name):
            name = f"{name}-{item.digest}"
        return Target(template=f"{folder}/{name}.{{ext}}", is_named=True, force=True)


def _is_over(error: AtelierError) -> bool:
    """Whether the request id of the task is used up: its generation failed, is another's, or is kept no more."""
    return bool(error.generation_id) or isinstance(error, ConflictError | NotFoundError)


def _get_cost(made: Generation | None) -> float:
    receipt = None if made is None else made.receipt
    return receipt.cost.amount if receipt is not None and receipt.cost is not None else 0.0


def _describe(
    item: BatchItem,
    made: Generation | None,
    state: str,
    *,
    files: Sequence[Path] = (),
    error: str = "",
    generation_id: str = "",
) -> BatchResult:
    receipt = None if made is None else made.receipt
    return BatchResult(
        number=item.number,
        digest=item.digest,
        prompt=item.task.prompt,
        id=generation_id if made is None else made.id,
        state=state,
        engine=item.engine if made is None else made.engine,
        seeds=() if made is None else tuple(output.seed for output in made.outputs),
        files=tuple(path.name for path in files),
        cost=_get_cost(made),
        currency=receipt.cost.currency if receipt is not None and receipt.cost is not None else "",
        error=error,
    )
