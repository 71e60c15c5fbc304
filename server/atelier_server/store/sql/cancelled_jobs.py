"""The part of an SQL store that knows which remote jobs are to be cancelled after a crash."""

from __future__ import annotations

from collections.abc import Sequence

from atelier.v1.generation_pb2 import AttemptOutcome
from atelier_server.store.protocol import Claim
from atelier_server.store.sql import cancellation_rows, rows
from atelier_server.store.sql.database import Connection, Database
from atelier_server.store.sql.overviews import SqlOverviews


class SqlCancelledJobs(SqlOverviews):
    """See protocol.Store."""

    def __init__(self, database: Database) -> None:
        """No job is to be cancelled until the store has looked."""
        super().__init__(database)
        self._cancelled_jobs: list[Claim] = []

    def take_cancelled_jobs(self, engine: str) -> Sequence[Claim]:
        """See Store.take_cancelled_jobs."""
        jobs, self._cancelled_jobs = self._cancelled_jobs, []
        self._cancelled_jobs += [job for job in jobs if job.generation.engine != engine]
        return [job for job in jobs if job.generation.engine == engine]

    async def record_job_cancelled(self, claim: Claim, left: str = "") -> None:
        """See Store.record_job_cancelled."""
        await self._database.run(lambda db: _record_job_cancelled(db, claim, left))


def _record_job_cancelled(db: Connection, claim: Claim, left: str) -> None:
    same_attempt = "id = ? AND attempt = ?"
    for record in rows.find_records(db, same_attempt, (claim.generation.id, claim.attempt)):
        generation = record.generation
        for attempt in generation.receipt.attempts[-1:]:
            attempt.outcome = AttemptOutcome.ATTEMPT_OUTCOME_CANCELLED
        cancellation_rows.rewrite_record(db, generation)
        cancellation_rows.replace_remote_handle(db, generation.id, left)
