"""The order of the embedded store's queues, simulated: many tenants, costs, weights, arrivals, and ways back."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import pytest

from atelier.v1.generation_pb2 import PRIORITY_BATCH, PRIORITY_INTERACTIVE, Priority
from atelier_server.store.priorities import PATIENCE, is_batch
from atelier_server.store.protocol import Claim, Event
from atelier_server.store.quotas import Share
from atelier_server.store.sql import operations, shares
from atelier_server.store.sqlite.migrations import migrate
from tests.store.conformance import submission, succeeded
from tests.store.priority_conformance import of_priority

WEIGHTS = {"ada": 1.0, "bob": 1.0, "cy": 2.5, "dee": 0.5}
MAX_COST = 40.0


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A file in one long transaction."""
    with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as connection:
        migrate(connection)
        connection.execute("BEGIN")
        yield connection


def accept(db: sqlite3.Connection, tenant: str, cost: float = 1.0) -> str:
    """Submit a generation; its id."""
    share = Share(cost=cost, weight=WEIGHTS.get(tenant, 1.0))
    made = operations.submit(db, submission(caller=tenant, share=share, queue_limit=10**6))
    return made.result.generation.id


def claim(db: sqlite3.Connection) -> Claim:
    """Claim the next one, which is the one foretold."""
    (foretold,) = shares.list_next(db, "sketch", 1)
    claimed = operations.claim(db, "sketch", lambda _: False)
    assert claimed is not None
    assert claimed[0].generation.id == foretold
    return claimed[0]


def cost_of(db: sqlite3.Connection, generation_id: str) -> float:
    """Its cost units."""
    found = db.execute("SELECT cost FROM generations WHERE id = ?", (generation_id,)).fetchone()
    return float(found[0])


def test_a_single_job_waits_for_none_of_thousands(db: sqlite3.Connection) -> None:
    """Three run when it comes; it is the next that is claimed, wherever the others' cost stands."""
    for number in range(2000):
        accept(db, "ada", 1.0 + number % 7)
    for _ in range(3):
        claim(db)
    for tenant in ("bob", "cy", "dee"):
        late = accept(db, tenant, MAX_COST)
        assert claim(db).generation.id == late


@dataclass(slots=True)
class Backlogged:
    """What two tenants were given while both had work waiting."""

    given: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    worst: float = 0.0

    def add(self, pair: tuple[str, str], tenant: str, amount: float) -> None:
        """Note what one of them is given, by its weight."""
        self.given[tenant] += amount
        self.worst = max(self.worst, abs(self.given[pair[0]] - self.given[pair[1]]))


def test_no_tenant_is_ahead_of_another_by_more_than_a_job_of_each(db: sqlite3.Connection) -> None:
    """The bound of start-time fair queueing, in every period in which both wait; with what is given back."""
    chance = random.Random(7)  # noqa: S311 (a simulation)
    waiting: Counter[str] = Counter()
    periods = {pair: Backlogged() for pair in combinations(WEIGHTS, 2)}
    for _ in range(1500):
        tenant = chance.choice([*WEIGHTS, "ada", "ada"])  # one sends more than its share
        if chance.random() < 0.55:
            accept(db, tenant, chance.uniform(1, MAX_COST))
            waiting[tenant] += 1
        elif waiting.total():
            claimed = claim(db)
            if chance.random() < 0.1:
                operations.requeue(
                    db, claimed, operations.Release(generation=claimed.generation), 1.0
                )
                continue
            served = claimed.caller
            share = cost_of(db, claimed.generation.id) / WEIGHTS[served]
            for pair, period in periods.items():
                if served in pair and waiting[pair[0]] and waiting[pair[1]]:
                    period.add(pair, served, share)
            waiting[served] -= 1
            operations.finish(db, claimed, succeeded(claimed), [Event()], 60.0)
            for pair, period in periods.items():
                if not (waiting[pair[0]] and waiting[pair[1]]):
                    period.given.clear()
    for pair, period in periods.items():
        assert 0 < period.worst <= sum(MAX_COST / WEIGHTS[tenant] for tenant in pair)


def test_batch_work_waits_for_a_bounded_amount_and_delays_by_one(db: sqlite3.Connection) -> None:
    """In any mix, with others' work between: the two bounds of priorities, and the order is the one foretold.

    One with the priority BATCH at the head waits while its tenant's interactive ones are given eight times its cost and
    one more; and between two of those, while they wait, at most one batch generation is claimed.
    """
    chance = random.Random(11)  # noqa: S311 (a simulation)
    for _ in range(40):
        accept_with(db, PRIORITY_BATCH, chance.uniform(1, MAX_COST))
    before_batch, batch_in_a_row, served = 0.0, 0, Counter[bool]()
    for _ in range(900):
        if chance.random() < 0.9:
            kind = PRIORITY_BATCH if chance.random() < 0.1 else PRIORITY_INTERACTIVE
            accept_with(db, kind, chance.uniform(1, MAX_COST))
        if chance.random() < 0.1:
            accept(db, "bob", chance.uniform(1, MAX_COST))
        waits = {batch: count_of(db, batch=batch) for batch in (False, True)}
        head = head_of_batch(db)
        claimed = claim(db)
        cost = cost_of(db, claimed.generation.id)
        operations.finish(db, claimed, succeeded(claimed), [Event()], 60.0)
        if claimed.caller != "ada":
            continue
        batch = is_batch(claimed.generation)
        served[batch] += 1
        before_batch = 0.0 if batch or not waits[True] else before_batch + cost
        batch_in_a_row = batch_in_a_row + 1 if batch and waits[False] else 0
        assert before_batch <= PATIENCE * head + MAX_COST
        assert batch_in_a_row <= 1
    assert min(served[True], served[False]) > 50


def accept_with(db: sqlite3.Connection, priority: Priority.ValueType, cost: float) -> None:
    """Submit a generation of that priority."""
    operations.submit(db, of_priority(priority, cost=cost))


def count_of(db: sqlite3.Connection, *, batch: bool) -> int:
    """How many of ada's wait that have the priority BATCH, or that have not."""
    query = "SELECT count(*) FROM generations WHERE state = 1 AND caller = 'ada' AND batch = ?"
    return int(db.execute(query, (batch,)).fetchone()[0])


def head_of_batch(db: sqlite3.Connection) -> float:
    """Cost of the oldest of ada's that waits with the priority BATCH; 0 if none does."""
    query = "SELECT cost FROM generations WHERE state = 1 AND caller = 'ada' AND batch = 1 ORDER BY id LIMIT 1"
    found = db.execute(query).fetchone()
    return float(found[0]) if found else 0.0


def test_the_books_are_those_of_the_rows(db: sqlite3.Connection) -> None:
    """After every kind of change: what waits for each engine, its cost units, and what was given today."""
    chance = random.Random(3)  # noqa: S311 (a simulation)
    running: list[Claim] = []
    for _ in range(600):
        match chance.randrange(6):
            case 0 | 1 | 2:
                accept(db, chance.choice([*WEIGHTS]), chance.uniform(1, MAX_COST))
            case 3 if shares.list_next(db, "sketch", 1):
                running.append(claim(db))
            case 4 if running:
                back = running.pop(chance.randrange(len(running)))
                operations.requeue(db, back, operations.Release(generation=back.generation), 1.0)
            case 5 if running:
                done = running.pop()
                operations.finish(db, done, succeeded(done), [Event()], 60.0)
    kept = db.execute(
        "SELECT tenant, waiting, cost, load FROM shares WHERE waiting > 0 ORDER BY tenant"
    ).fetchall()
    counted = db.execute(
        "SELECT caller, count(*), sum(cost), sum(cost / weight) FROM generations WHERE state = 1"
        " GROUP BY caller ORDER BY caller"
    ).fetchall()
    assert [row[:2] for row in kept] == [row[:2] for row in counted] != []
    for one, other in zip(kept, counted, strict=True):
        assert one[2:] == pytest.approx(other[2:])
    used = db.execute("SELECT sum(used) FROM shares").fetchone()[0]
    claimed = db.execute("SELECT sum(cost) FROM generations WHERE state <> 1").fetchone()[0]
    assert used == pytest.approx(claimed)
