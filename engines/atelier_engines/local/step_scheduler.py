"""Runs the tasks of one device on one thread, step by step: tasks enter and leave between two steps.

An output of a task is made by a coroutine: a generator that yields a request for the model whenever it
needs one, and is sent the model's prediction. The thread owns all state; other threads send commands to it
and receive events from it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Generator, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

from atelier_engines.event import Event, Step
from atelier_engines.threads import Emit, wait_shielded

_log = logging.getLogger(__name__)

ValueT = TypeVar("ValueT")


class BatchableRequest(Protocol):
    """One coroutine's request for the model; it may share a run with others of the same key."""

    @property
    def key(self) -> Hashable:
        """Requests of one key have the same shapes and the same weights."""

    @property
    def size(self) -> tuple[int, ...]:
        """Size of one row, in the unit of the batch limit."""

    def __len__(self) -> int:
        """Number of rows."""


RequestT = TypeVar("RequestT", bound=BatchableRequest)
PredictionT = TypeVar("PredictionT")

StepCoroutine = Generator[RequestT | None, PredictionT, None]
"""Makes one output: yields requests for the model and is sent the predictions.

None requests nothing: it lets other coroutines run, and any value may be sent back.
"""
StartTask = Callable[[Emit], "Sequence[StepCoroutine[RequestT, PredictionT]]"]
"""Creates the coroutines of a task; called on the scheduler's thread."""
Predict = Callable[["Sequence[RequestT]"], "Sequence[PredictionT]"]
"""Runs the model once for all these requests; called on the scheduler's thread."""


class PendingRequest(Protocol):
    """A coroutine that waits for its prediction."""

    @property
    def request(self) -> BatchableRequest:
        """The request it has yielded."""


PendingT = TypeVar("PendingT", bound=PendingRequest)


class FairBatcher:
    """Chooses the requests of the next run; groups that cannot share a run take turns.

    The group whose last run is the longest ago is next; within a group, requests go in order of arrival.
    """

    def __init__(self, limit: Callable[..., int]) -> None:
        """Limit the rows of a run to `limit(*size)` for requests of that size."""
        self._limit = limit
        self._last_turns: dict[Hashable, int] = {}
        self._turn = 0

    def next(self, pending: Sequence[PendingT]) -> list[PendingT]:
        """Those of `pending`, in order of arrival, that share the next run; at least one of them."""
        groups: dict[Hashable, list[PendingT]] = {}
        for item in pending:
            groups.setdefault(item.request.key, []).append(item)
        self._last_turns = {key: turn for key, turn in self._last_turns.items() if key in groups}
        key = min(groups, key=lambda group: self._last_turns.get(group, -1))
        self._turn += 1
        self._last_turns[key] = self._turn
        return self._fill_batch(groups[key])

    def _fill_batch(self, group: Sequence[PendingT]) -> list[PendingT]:
        limit = self._limit(*group[0].request.size)
        chosen, rows = [group[0]], len(group[0].request)
        for item in group[1:]:
            if rows + len(item.request) > limit:
                break
            chosen.append(item)
            rows += len(item.request)
        return chosen


@dataclass(slots=True, eq=False)
class _Task:
    """A task in the scheduler."""

    emit: Emit
    done: Future[None] = field(default_factory=Future)
    """Done when no coroutine of the task is left; holds the error, if there is one."""
    coroutines: list[_Coroutine[Any, Any]] = field(default_factory=list)
    """Those that are not finished."""

    def close(self, error: Exception | None = None) -> None:
        """Stop the coroutines that are left, and end the task with that error, if any."""
        for coroutine in self.coroutines:
            coroutine.close()
        self.coroutines.clear()
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


@dataclass(slots=True, eq=False)
class _Coroutine(Generic[RequestT, PredictionT]):
    """A coroutine in the scheduler."""

    task: _Task
    generator: StepCoroutine[RequestT, PredictionT]
    pending: RequestT | None = None
    """The request that waits for its prediction; None while the coroutine can run by itself."""

    @property
    def request(self) -> RequestT:
        """See PendingRequest.request."""
        if self.pending is None:
            raise ValueError("the coroutine has no pending request")
        return self.pending

    @property
    def active(self) -> bool:
        """Whether it is still to be run: its task may have ended meanwhile."""
        return self in self.task.coroutines

    def advance(self, prediction: PredictionT | None) -> None:
        """Run it until it yields a request or a pause; a coroutine that fails ends its task."""
        self._run(lambda: self.generator.send(prediction))  # type: ignore[arg-type]  # None to begin

    def fail(self, error: Exception) -> None:
        """Raise the error of its run inside it."""
        self._run(lambda: self.generator.throw(error))

    def close(self) -> None:
        """Stop it where it is."""
        try:
            self.generator.close()
        except Exception:  # noqa: BLE001 (its task has ended; a broken device fails the next task too)
            _log.exception("coroutine_close_failed")

    def _run(self, resume: Callable[[], RequestT | None]) -> None:
        try:
            self.pending = resume()
        except StopIteration:
            self.task.coroutines.remove(self)
            if not self.task.coroutines:
                self.task.close()
        except Exception as error:  # noqa: BLE001 (whatever it is, the task ends with it)
            self.task.coroutines.remove(self)
            self.task.close(error)


class StepScheduler(Generic[RequestT, PredictionT]):
    """A thread, and the tasks that it runs."""

    def __init__(self, name: str) -> None:
        """Start the thread, under that name."""
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._tasks: list[_Task] = []
        self._predict: Predict[RequestT, PredictionT] | None = None
        self._batcher: FairBatcher | None = None
        self._stopped = False
        self._batch_size = 0
        """Of the run whose predictions the coroutines get now; 0 between runs."""
        self._thread = threading.Thread(target=self._run_thread, name=name, daemon=True)
        self._thread.start()

    async def call(self, work: Callable[[], ValueT]) -> ValueT:
        """Run `work()` on the thread between two steps and return its result.

        It cannot be stopped, so a cancelled caller waits for its end like everyone.

        Raises:
            Exception: whatever `work` raises.
        """
        done: Future[ValueT] = Future()
        self._commands.put(partial(_set_result, done, work))
        result = asyncio.wrap_future(done)
        await wait_shielded(result)
        return result.result()

    def configure(self, predict: Predict[RequestT, PredictionT], batcher: FairBatcher) -> None:
        """Set what runs the model and what chooses the requests of a run; call it on the thread."""
        self._predict, self._batcher = predict, batcher

    def reset(self) -> None:
        """Drop what `configure` has set, so that its memory can be freed; call it on the thread."""
        self._predict = self._batcher = None

    async def stream(self, start: StartTask[RequestT, PredictionT]) -> AsyncGenerator[Event]:
        """Run a task and yield its events, to its end.

        Closing the generator stops the task: it returns when the thread has left the task, after at most
        one run of the model, however often the close itself is cancelled.

        Raises:
            Exception: whatever one of the coroutines raises; the others are stopped.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | None] = asyncio.Queue()

        def emit(event: Event | None) -> None:
            if isinstance(event, Step):
                event = replace(event, batch=self._batch_size)
            loop.call_soon_threadsafe(events.put_nowait, event)

        task = _Task(emit=emit)
        task.done.add_done_callback(lambda _: emit(None))
        done = asyncio.wrap_future(task.done)
        self._commands.put(partial(self._admit, task, start))
        try:
            while (event := await events.get()) is not None:
                yield event
            await done
        finally:
            self._commands.put(task.close)
            await wait_shielded(done)

    async def stop(self) -> None:
        """End the thread; tasks that are left are stopped."""

        def stop() -> None:
            self._stopped = True
            for task in self._tasks:
                task.close()

        await self.call(stop)
        await asyncio.to_thread(self._thread.join)

    def _run_thread(self) -> None:
        while not self._stopped:
            try:
                self._drain_commands()
                self._step()
            except Exception as error:  # noqa: BLE001 (all tasks in the scheduler end with it)
                _log.exception("step_scheduler_failed")
                for task in self._tasks:
                    task.close(error)

    def _drain_commands(self) -> None:
        """Run the commands that are queued; wait for one where there is no task."""
        self._tasks = [task for task in self._tasks if task.coroutines]
        while not (self._commands.empty() and self._tasks) and not self._stopped:
            self._commands.get()()
            self._tasks = [task for task in self._tasks if task.coroutines]

    def _run_commands(self) -> None:
        """Run the commands that are queued: what each image does in a step may take long, and a task may end before."""
        while not self._commands.empty():
            self._commands.get()()

    def _step(self) -> None:
        """Advance all coroutines that can run by themselves, then run the model once."""
        if not self._tasks:
            return  # nor has a model loaded PyTorch, where that is not installed
        import torch  # noqa: PLC0415  (the model has loaded it by now)

        with torch.inference_mode():
            for coroutine in self._coroutines():
                self._run_commands()
                if coroutine.pending is None and coroutine.active:
                    coroutine.advance(None)
            self._run_commands()
            pending = [item for item in self._coroutines() if item.pending is not None]
            if pending and self._batcher is not None and not self._stopped:
                self._run_batch(self._batcher.next(pending))

    def _run_batch(self, batch: Sequence[_Coroutine[RequestT, PredictionT]]) -> None:
        """Run the model for these requests; if that fails for several, run each half.

        So only the request that causes a failure gets the error. Nothing has changed in a coroutine whose
        run failed, so it can be run again.
        """
        batch = [coroutine for coroutine in batch if coroutine.active]
        if not batch:  # another coroutine of their task has ended it
            return
        failure = self._try_batch(batch)
        if failure is None:
            return
        if len(batch) == 1:
            batch[0].fail(failure)
            return
        _log.warning("batch_split", extra={"requests": len(batch), "error": str(failure)})
        traceback.clear_frames(failure.__traceback__)  # they may hold what there was no memory for
        half = len(batch) // 2
        self._run_batch(batch[:half])
        self._run_batch(batch[half:])

    def _try_batch(self, batch: Sequence[_Coroutine[RequestT, PredictionT]]) -> Exception | None:
        """Run the model once and send the predictions; return its error, if there is one."""
        if self._predict is None:
            raise ValueError("call configure before the first task")
        try:
            predictions = self._predict([coroutine.request for coroutine in batch])
        except Exception as error:  # noqa: BLE001 (the coroutines get it)
            return error
        self._batch_size = len(batch)
        for coroutine, prediction in zip(batch, predictions, strict=True):
            self._run_commands()
            if coroutine.active:
                coroutine.advance(prediction)
        self._batch_size = 0
        return None

    def _coroutines(self) -> list[_Coroutine[RequestT, PredictionT]]:
        return [coroutine for task in self._tasks for coroutine in task.coroutines]

    def _admit(self, task: _Task, start: StartTask[RequestT, PredictionT]) -> None:
        if task.done.done():  # the caller left before it began
            return
        try:
            task.coroutines += [_Coroutine(task, generator) for generator in start(task.emit)]
        except Exception as error:  # noqa: BLE001 (whatever it is, the task ends with it)
            task.close(error)
        else:
            self._tasks.append(task)


def _set_result(done: Future[ValueT], work: Callable[[], ValueT]) -> None:
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 (the caller gets it)
        done.set_exception(error)
    else:
        done.set_result(result)
