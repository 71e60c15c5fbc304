"""The memory for decoding: never more than there is, and everybody's turn comes."""

from __future__ import annotations

import asyncio

import pytest

from atelier_engines.decoding.budget import DecodingBudget


class Tasks:
    """Tasks that hold a part of one budget until they are told to end."""

    def __init__(self, budget: DecodingBudget) -> None:
        """Use the budget."""
        self.budget = budget
        self.running: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, name: str, size: int) -> None:
        """Let a task ask for so many bytes."""
        self._ends[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._run(name, size))
        await self._settle()

    async def end(self, name: str) -> None:
        """Let it give back what it has."""
        self._ends[name].set()
        await self._settle()

    async def cancel(self, *names: str) -> None:
        """Cancel tasks, at the same moment."""
        for name in names:
            self._tasks[name].cancel()
        await self._settle()

    async def _run(self, name: str, size: int) -> None:
        async with self.budget.reserve(size):
            self.running.append(name)
            try:
                await self._ends[name].wait()
            finally:
                self.running.remove(name)

    async def _settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        assert 0 <= self.budget.reserved_bytes <= self.budget.max_bytes


@pytest.fixture
def tasks() -> Tasks:
    """Tasks at a budget of 100 bytes."""
    return Tasks(DecodingBudget(100, on_idle=lambda _: None))


async def test_tasks_wait_in_their_order(tasks: Tasks) -> None:
    """A small one does not pass a large one by."""
    for name, size in (("a", 60), ("large", 90), ("small", 10)):
        await tasks.start(name, size)
    assert tasks.running == ["a"]
    await tasks.end("a")
    assert tasks.running == ["large", "small"]


async def test_more_than_all_is_all(tasks: Tasks) -> None:
    """Such a task runs alone, rather than never."""
    await tasks.start("a", 1)
    await tasks.start("huge", 1000)
    assert tasks.running == ["a"]
    await tasks.end("a")
    assert tasks.running == ["huge"]
    assert tasks.budget.reserved_bytes == 100


async def test_cancelled_tasks_leave_nothing(tasks: Tasks) -> None:
    """Whether they wait or run; those behind them go on."""
    for name, size in (("a", 60), ("large", 90), ("small", 10)):
        await tasks.start(name, size)
    await tasks.cancel("large")
    assert tasks.running == ["a", "small"]
    await tasks.start("b", 90)
    await tasks.cancel("a", "b")
    assert tasks.running == ["small"]
    await tasks.cancel("small")
    assert tasks.budget.reserved_bytes == 0


async def test_what_is_not_needed_any_more_is_given_back(tasks: Tasks) -> None:
    """A task may keep a part of what it had."""
    async with tasks.budget.reserve(80) as reservation:
        await tasks.start("a", 60)
        assert not tasks.running
        reservation.shrink(40)
        await asyncio.sleep(0)
        assert tasks.running == ["a"]
    assert tasks.budget.reserved_bytes == 60
