"""Watches a task's jobs until they end, by socket messages and, when none arrive, by polling."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from atelier_engines.errors import EngineFailedError, OutOfMemoryError
from atelier_engines.event import Event, Output, Stage, Step
from atelier_engines.media import Encoded, Pixels
from atelier_engines.task import ImageTask
from atelier_engines.vendors.comfyui import errors
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
from atelier_engines.vendors.comfyui.schemas import FileRef, HistoryEntry
from atelier_engines.vendors.comfyui.step_counter import StepCounter
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.images import load_preview, load_result

_LOOKUP_DELAY_SECONDS = 0.2
_MAX_LOOKUPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWatcher:
    """Watches all jobs of one task."""

    client: ComfyClient
    jobs: JobHandle
    task: ImageTask
    outputs: tuple[str, ...]
    """Ids of the nodes whose images are the result."""
    socket: EventSocket
    poll_seconds: float
    deadline: Deadline

    async def watch(self) -> AsyncGenerator[Event]:
        """Yield stages, steps, and one output per job.

        Raises:
            EngineFailedError: a job failed, was interrupted, or is lost.
            OutOfMemoryError: a job ran out of GPU memory.
            EngineTimeoutError: the deadline has passed.
        """
        counter = StepCounter(
            steps_per_job=self.task.steps or 0,
            jobs=len(self.jobs.prompts),
            interval=self.task.preview_interval,
        )
        for number in range(len(self.jobs.prompts)):
            async with aclosing(self._watch_job(number, counter)) as events:
                async for event in events:
                    yield event
            image = await self._fetch_image(number)
            for step in counter.finish_job(number):
                yield step
            yield Output(media=image, seed=self.task.seeds[number])

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
                position = await self._queue_position(prompt)
                if position is None:
                    break
                now = _stage_at(position)
            if now is not None and now != stage:
                stage = now
                yield now
            self.deadline.require("comfyui")
            message = await self.socket.receive(min(self.poll_seconds, self.deadline.remaining))
            for step in await self._steps(message, counter):
                yield step
        for message in self.socket.drain():
            for step in await self._steps(message, counter):
                yield step

    async def _queue_position(self, prompt: str) -> int | None:
        """Return the number of jobs ahead; None once the job has ended.

        A job that is in neither history nor queue may be moving from one to the other, so both are read again.

        Raises:
            EngineFailedError: the server does not know the job.
        """
        for _ in range(_MAX_LOOKUPS):
            if await self.client.history_entry(prompt) is not None:
                return None
            position = await self.client.queue_position(prompt)
            if position is not None:
                return position
            await self.client.vendor.pause(_LOOKUP_DELAY_SECONDS)
        raise EngineFailedError(
            "comfyui lost the job: the server was restarted, or someone removed it from the queue"
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

    async def _fetch_image(self, number: int) -> Encoded | Pixels:
        entry = await self.client.history_entry(self.jobs.prompts[number])
        if entry is None:
            raise EngineFailedError("comfyui lost the job's history")
        if entry.status.status_str != "success":
            failure = errors.translate_failure(entry.status)
            if isinstance(failure, OutOfMemoryError):
                await self.client.free_memory()
            raise failure
        file = await self.client.fetch_image(self._find_file(entry))
        return await load_result("comfyui", file.data, self.task)

    def _find_file(self, entry: HistoryEntry) -> FileRef:
        for node in self.outputs:
            for file in entry.files(node):
                return file
        raise EngineFailedError(
            f"comfyui finished without an image from the nodes {', '.join(self.outputs)}; "
            "name the nodes that save images in the bindings' outputs"
        )


def _stage_at(position: int) -> Stage:
    return Stage(name="queued", queue_position=position) if position else Stage(name="generate")
