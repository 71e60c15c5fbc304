"""Follows a task's jobs to their ends, by what the server tells and, in silence, by asking."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from PIL import Image

from atelier_engines.errors import EngineFailedError, OutOfMemoryError
from atelier_engines.event import Event, Output, Stage, Step
from atelier_engines.media import Encoded, Pixels
from atelier_engines.preview import preview_from_image
from atelier_engines.task import ImageTask
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors import pictures
from atelier_engines.vendors.comfyui import errors
from atelier_engines.vendors.comfyui.job import Jobs
from atelier_engines.vendors.comfyui.listener import Listener
from atelier_engines.vendors.comfyui.messages import Ending, Message, Preview, Progress, Running
from atelier_engines.vendors.comfyui.progress import Counter
from atelier_engines.vendors.comfyui.server import Server
from atelier_engines.vendors.comfyui.wire import File, Record
from atelier_engines.vendors.deadline import Deadline

_MOST_PREVIEW_PIXELS = 16 * 2**20
_SETTLING_SECONDS = 0.2
_SETTLING_TRIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """Everything that is needed to follow."""

    server: Server
    jobs: Jobs
    task: ImageTask
    outputs: tuple[str, ...]
    """Nodes whose pictures are the result."""
    listener: Listener
    poll_seconds: float
    deadline: Deadline

    async def follow(self) -> AsyncGenerator[Event]:
        """Stages, steps, and one output a job.

        Raises:
            EngineFailedError: a job failed, was stopped, or is lost.
            OutOfMemoryError: a job did not fit.
            EngineTimeoutError: the deadline has come.
        """
        counter = Counter(
            each=self.task.steps or 0,
            jobs=len(self.jobs.prompts),
            interval=self.task.preview_interval,
        )
        for number in range(len(self.jobs.prompts)):
            async with aclosing(self._until_ended(number, counter)) as events:
                async for event in events:
                    yield event
            picture = await self._picture(number)
            for step in counter.finished(number):
                yield step
            yield Output(media=picture, seed=self.task.seeds[number])

    async def _until_ended(self, number: int, counter: Counter) -> AsyncGenerator[Event]:
        """Stages and steps of one job until its history is written."""
        prompt = self.jobs.prompts[number]
        stage: Stage | None = None
        message: Message | None = None  # asks at once: the job may have ended long ago
        while True:
            now = stage
            if isinstance(message, Running | Progress) and message.prompt == prompt:
                now = Stage(name="generate")
            elif message is None or message == Ending(prompt=prompt):
                position = await self._position(prompt)
                if position is None:
                    break
                now = _stage_at(position)
            if now is not None and now != stage:
                stage = now
                yield now
            self.deadline.require("comfyui")
            message = await self.listener.next(min(self.poll_seconds, self.deadline.left))
            for step in await self._steps(message, counter):
                yield step
        for message in self.listener.heard():
            for step in await self._steps(message, counter):
                yield step

    async def _position(self, prompt: str) -> int | None:
        """Jobs before that one; None once it has ended.

        A job that is in neither history nor queue may just have gone from the one to the other.

        Raises:
            EngineFailedError: it is lost.
        """
        for _ in range(_SETTLING_TRIES):
            if await self.server.history(prompt) is not None:
                return None
            position = await self.server.position(prompt)
            if position is not None:
                return position
            await self.server.vendor.pause(_SETTLING_SECONDS)
        raise EngineFailedError(
            "comfyui lost the job: the server was restarted, or someone took it out of the queue"
        )

    async def _steps(self, message: Message | None, counter: Counter) -> list[Step]:
        match message:
            case Progress(prompt=prompt) if prompt in self.jobs.prompts:
                return list(counter.heard(self.jobs.prompts.index(prompt), message))
            case Preview(prompt=prompt, data=data) if counter.wants_preview:
                if prompt and prompt not in self.jobs.prompts:
                    return []
                preview = await result_from_thread(partial(_small, data))
                return [] if preview is None else list(counter.seen(preview))
            case None:
                return list(counter.waited())
            case _:
                return []

    async def _picture(self, number: int) -> Encoded | Pixels:
        record = await self.server.history(self.jobs.prompts[number])
        if record is None:
            raise EngineFailedError("comfyui lost the job's history")
        if record.status.status_str != "success":
            failure = errors.of_status(record.status)
            if isinstance(failure, OutOfMemoryError):
                await self.server.free()
            raise failure
        found = await self.server.result(self._file(record))
        asked = {"width": self.task.width, "height": self.task.height}
        return await result_from_thread(
            partial(pictures.picture_from_file, "comfyui", found.data, **asked)
        )

    def _file(self, record: Record) -> File:
        for node in self.outputs:
            for file in record.files(node):
                return file
        raise EngineFailedError(
            f"comfyui finished without a picture from the nodes {', '.join(self.outputs)}; "
            "name those that save pictures in the bindings' outputs"
        )


def _stage_at(position: int) -> Stage:
    return Stage(name="queued", queue_position=position) if position else Stage(name="generate")


def _small(data: bytes) -> Encoded | None:
    """The preview, no larger than previews are; None for what is no picture. Blocks."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
            if image.width * image.height > _MOST_PREVIEW_PIXELS:
                return None
            return preview_from_image(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError):
        return None
