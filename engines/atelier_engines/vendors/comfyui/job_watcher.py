"""Watches a task's jobs until they end, by socket messages and, when none arrive, by polling."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from atelier_engines.errors import EngineFailedError, OutOfMemoryError
from atelier_engines.event import Event, Stage, Step
from atelier_engines.task import ImageTask
from atelier_engines.vendors.comfyui.api import ComfyClient
from atelier_engines.vendors.comfyui.event_socket import EventSocket
from atelier_engines.vendors.comfyui.handle import JobHandle
from atelier_engines.vendors.comfyui.messages import (
    JobEnded,
    JobStarted,
    Message,
    NodeProgress,
    PreviewImage,
)
from atelier_engines.vendors.comfyui.results import fetch_results
from atelier_engines.vendors.comfyui.step_counter import StepCounter
from atelier_engines.vendors.images import load_preview
from atelier_engines.vendors.outages import MAX_INVALID_POLLS, OutageWaiter

_LOOKUP_DELAY_SECONDS = 0.2
_MAX_LOOKUPS = 10


@dataclass(slots=True, kw_only=True)
class JobWatcher:
    """Watches all jobs of one task."""

    client: ComfyClient
    jobs: JobHandle
    task: ImageTask
    outputs: tuple[str, ...]
    """Ids of the nodes whose images are the result."""
    socket: EventSocket
    poll_seconds: float
    waiter: OutageWaiter
    ended: int = 0
    """Number of jobs that have ended, in the order of the seeds."""

    async def watch(self, counter: StepCounter) -> AsyncGenerator[Event]:
        """Yield stages, steps, and the outputs of each job. While the server cannot be reached, its jobs go on.

        Raises:
            EngineFailedError: a job failed, was interrupted, or is lost.
            OutOfMemoryError: a job ran out of GPU memory.
            EngineTimeoutError: the deadline has passed.
        """
        for number in range(len(self.jobs.prompts)):
            async with aclosing(self._watch_job(number, counter)) as events:
                async for event in events:
                    yield event
            self.ended = number + 1
            try:
                results = fetch_results(
                    self.client,
                    self.jobs.prompts[number],
                    self.outputs,
                    self.task,
                    seed=self.task.seeds[number],
                    waiter=self.waiter,
                )
                first = True
                async with aclosing(results) as outputs:
                    async for output in outputs:
                        for step in counter.finish_job(number) if first else ():
                            yield step
                        first = False
                        yield output
            except OutOfMemoryError:
                await self.client.free_memory()
                raise

    async def _watch_job(self, number: int, counter: StepCounter) -> AsyncGenerator[Event]:
        """Yield stages and steps of one job until its history entry exists."""
        prompt = self.jobs.prompts[number]
        stage: Stage | None = None
        message: Message | None = None  # polls at once: the job may have ended already
        while True:
            now = stage
            if isinstance(message, JobStarted | NodeProgress) and message.prompt == prompt:
                now = Stage(name="generate")
            elif message is None or message == JobEnded(prompt=prompt):
                position = await self._queue_position(prompt, stage)
                if position is None:
                    break
                now = _stage_at(position)
            if now is not None and now != stage:
                stage = now
                yield now
            deadline = self.waiter.deadline
            deadline.require("comfyui", reason=_why_unfinished(stage))
            message = await self.socket.receive(min(self.poll_seconds, deadline.remaining))
            for step in await self._steps(message, counter):
                yield step
        for message in self.socket.drain():
            for step in await self._steps(message, counter):
                yield step

    async def _queue_position(self, prompt: str, stage: Stage | None) -> int | None:
        """Return the number of jobs ahead; None once the job has ended.

        A job that is in neither history nor queue may be moving from one to the other, so both are read again.

        Raises:
            EngineFailedError: the server does not know the job.
        """
        ask = partial(self.waiter.ask, reason=_why_unfinished(stage), max_invalid=MAX_INVALID_POLLS)
        for _ in range(_MAX_LOOKUPS):
            if await ask(partial(self.client.history_entry, prompt)) is not None:
                return None
            position = await ask(partial(self.client.queue_position, prompt))
            if position is not None:
                return position
            await self.client.vendor.pause(_LOOKUP_DELAY_SECONDS)
        raise EngineFailedError(
            "comfyui lost the job, which is in neither its queue nor its history: the server was restarted, "
            "or someone removed the job"
        )

    async def _steps(self, message: Message | None, counter: StepCounter) -> list[Step]:
        match message:
            case NodeProgress(prompt=prompt) if prompt in self.jobs.prompts:
                return list(counter.count(self.jobs.prompts.index(prompt), message))
            case PreviewImage(prompt=prompt, data=data) if counter.wants_preview:
                if prompt and prompt not in self.jobs.prompts:
                    return []
                preview = await load_preview(data)
                return [] if preview is None else list(counter.attach_preview(preview))
            case None:
                return list(counter.release())
            case _:
                return []


def _stage_at(position: int) -> Stage:
    return Stage(name="queued", queue_position=position) if position else Stage(name="generate")


def _why_unfinished(stage: Stage | None) -> str:
    if stage is None or stage.queue_position is None:
        return ""
    return f"the job still waited in its queue, behind {stage.queue_position} others"
