"""The one thread that works on a device: takes the pictures of all tasks along, step by step.

Tasks come and go between two runs of the denoiser. The thread owns all state; others send it
commands, and get events back.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from atelier_engines.event import Event
from atelier_engines.threads import Emit, wait_shielded

if TYPE_CHECKING:
    import torch

    from atelier_engines.diffusion.batching import Run, Turns
    from atelier_engines.diffusion.painting import Painting

_log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")

Begin = Callable[[Emit], "Sequence[Painting]"]
"""Begins the pictures of a task; called on the loop's thread."""
Denoise = Callable[["Sequence[Run]"], "Sequence[torch.Tensor]"]
"""Runs the denoiser once for all these runs; called on the loop's thread."""


@dataclass(slots=True, eq=False)
class _Task:
    """A task in the loop."""

    emit: Emit
    over: Future[None] = field(default_factory=Future)
    """Done when no picture of it is left in the loop; holds the error, if there is one."""
    pictures: list[_Picture] = field(default_factory=list)
    """Those that are not finished."""

    def close(self, error: Exception | None = None) -> None:
        """Stop whatever is left of it."""
        for picture in self.pictures:
            picture.close()
        self.pictures.clear()
        if self.over.done():
            return
        if error is None:
            self.over.set_result(None)
        else:
            self.over.set_exception(error)


@dataclass(slots=True, eq=False)
class _Picture:
    """A picture in the loop."""

    task: _Task
    painting: Painting
    asked: Run | None = None
    """What it waits for; None while it can go on by itself."""

    @property
    def run(self) -> Run:
        """See Waiting.run."""
        if self.asked is None:
            raise ValueError("a picture that waits has asked for a run")
        return self.asked

    @property
    def there(self) -> bool:
        """Whether it is still to be painted: its task may have ended meanwhile."""
        return self in self.task.pictures

    def go_on(self, prediction: torch.Tensor | None) -> None:
        """Let it work until it asks for a run or a pause; a picture that fails ends its task."""
        self._work(lambda: self.painting.send(prediction))  # type: ignore[arg-type]  # None to begin

    def fail(self, error: Exception) -> None:
        """Have it end with what became of its run."""
        self._work(lambda: self.painting.throw(error))

    def close(self) -> None:
        """Stop it where it is."""
        try:
            self.painting.close()
        except Exception:  # noqa: BLE001 (its task has ended; the next one will meet what is wrong)
            _log.exception("a picture that was stopped failed at its end")

    def _work(self, step: Callable[[], Run | None]) -> None:
        try:
            self.asked = step()
        except StopIteration:
            self.task.pictures.remove(self)
            if not self.task.pictures:
                self.task.close()
        except Exception as error:  # noqa: BLE001 (it is the task's, whatever it is)
            self.task.pictures.remove(self)
            self.task.close(error)


class Loop:
    """A thread, and the tasks that it works on."""

    def __init__(self, name: str) -> None:
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._tasks: list[_Task] = []
        self._denoise: Denoise | None = None
        self._turns: Turns | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def call(self, work: Callable[[], ResultT]) -> ResultT:
        """What `work()` returns, done on the thread between two runs of the denoiser.

        It cannot be stopped, so a cancelled caller waits for its end like everyone.

        Raises:
            Exception: whatever `work` raises.
        """
        done: Future[ResultT] = Future()
        self._commands.put(partial(_fulfil, done, work))
        result = asyncio.wrap_future(done)
        await wait_shielded(result)
        return result.result()

    def serve(self, denoise: Denoise, turns: Turns) -> None:
        """From now on run the denoiser like this; call it on the thread."""
        self._denoise, self._turns = denoise, turns

    def forget(self) -> None:
        """Run it no more, so that its memory can be given back; call it on the thread."""
        self._denoise = self._turns = None

    async def stream(self, begin: Begin) -> AsyncGenerator[Event]:
        """The events of a task, to its end.

        Closing the generator stops the task: it returns when the thread has left it, after at most
        one run of the denoiser, however often the close itself is cancelled.

        Raises:
            Exception: whatever one of the pictures raises; the others are stopped.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | None] = asyncio.Queue()

        def tell(event: Event | None) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        task = _Task(emit=tell)
        task.over.add_done_callback(lambda _: tell(None))
        over = asyncio.wrap_future(task.over)
        self._commands.put(partial(self._enter, task, begin))
        try:
            while (event := await events.get()) is not None:
                yield event
            await over
        finally:
            self._commands.put(task.close)
            await wait_shielded(over)

    async def stop(self) -> None:
        """End the thread; tasks that are left are stopped."""

        def stop() -> None:
            self._stopped = True
            for task in self._tasks:
                task.close()

        await self.call(stop)
        await asyncio.to_thread(self._thread.join)

    def _serve(self) -> None:
        while not self._stopped:
            try:
                self._obey()
                self._take_turn()
            except Exception as error:  # noqa: BLE001 (told to all who wait)
                _log.exception("the loop failed, and with it all tasks in it; this is a bug")
                for task in self._tasks:
                    task.close(error)

    def _obey(self) -> None:
        """Do what was asked; wait for it where there is nothing else to do."""
        self._tasks = [task for task in self._tasks if task.pictures]
        while not (self._commands.empty() and self._tasks) and not self._stopped:
            self._commands.get()()
            self._tasks = [task for task in self._tasks if task.pictures]

    def _take_turn(self) -> None:
        """Take all along that can go on by themselves, then run the denoiser once."""
        import torch  # noqa: PLC0415  (the model has loaded it by now)

        with torch.inference_mode():
            for picture in self._pictures():
                if picture.asked is None and picture.there:
                    picture.go_on(None)
            waiting = [picture for picture in self._pictures() if picture.asked is not None]
            if waiting and self._turns is not None:
                self._run(self._turns.next(waiting))

    def _run(self, pictures: Sequence[_Picture]) -> None:
        """Run the denoiser for these; where that fails for several, for ever fewer of them.

        A failure is so told to those alone that cause it. Nothing has changed in a picture whose
        run failed, so it can be run again.
        """
        pictures = [picture for picture in pictures if picture.there]
        if not pictures:  # one that shared their task has ended it
            return
        failure = self._try(pictures)
        if failure is None:
            return
        if len(pictures) == 1:
            pictures[0].fail(failure)
            return
        _log.warning("a run for %d pictures failed, each half is tried: %s", len(pictures), failure)
        traceback.clear_frames(failure.__traceback__)  # they may hold what there was no memory for
        half = len(pictures) // 2
        self._run(pictures[:half])
        self._run(pictures[half:])

    def _try(self, pictures: Sequence[_Picture]) -> Exception | None:
        """Run the denoiser and hand out what it made; or what went wrong with it."""
        if self._denoise is None:
            raise ValueError("serve says how to run the denoiser")
        try:
            predictions = self._denoise([picture.run for picture in pictures])
        except Exception as error:  # noqa: BLE001 (told to the pictures)
            return error
        for picture, prediction in zip(pictures, predictions, strict=True):
            if picture.there:
                picture.go_on(prediction)
        return None

    def _pictures(self) -> list[_Picture]:
        return [picture for task in self._tasks for picture in task.pictures]

    def _enter(self, task: _Task, begin: Begin) -> None:
        if task.over.done():  # the caller left before it began
            return
        try:
            task.pictures += [_Picture(task, painting) for painting in begin(task.emit)]
        except Exception as error:  # noqa: BLE001 (it is the task's, whatever it is)
            task.close(error)
        else:
            self._tasks.append(task)


def _fulfil(done: Future[ResultT], work: Callable[[], ResultT]) -> None:
    try:
        result = work()
    except Exception as error:  # noqa: BLE001 (it is the caller's, whatever it is)
        done.set_exception(error)
    else:
        done.set_result(result)
