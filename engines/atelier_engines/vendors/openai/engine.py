"""Runs tasks at OpenAI: one request a picture, answered when the picture is ready."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

from PIL import Image

from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import EngineFailedError, EngineUnavailableError, UnsupportedError
from atelier_engines.event import Event, Output, Stage, Step
from atelier_engines.media import Encoded, Pixels
from atelier_engines.preview import preview_from_image
from atelier_engines.task import AudioTask, ImageTask, Task
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors import errors
from atelier_engines.vendors.at_most_once import SUBMITTING, require_not_submitted
from atelier_engines.vendors.images import load_result_image
from atelier_engines.vendors.openai.capabilities import abilities
from atelier_engines.vendors.openai.config import OpenaiConfig
from atelier_engines.vendors.openai.orders import Order, order_of
from atelier_engines.vendors.retry import retry

if TYPE_CHECKING:
    from atelier_engines.vendors.openai.calls import Calls, File

_NAME = "openai"
Previews = asyncio.Queue[Encoded | None]
"""Of all pictures as they come; None whenever a picture has ended."""


class OpenaiEngine:
    """Image models behind https://api.openai.com."""

    def __init__(self, config: OpenaiConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet. `delay_scale` multiplies every pause; tests make it small."""
        self._config = config
        self._delay_scale = delay_scale
        self._capabilities = abilities(config)
        self._connection: Calls | None = None

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start. Loads the SDK; connects with the first request."""
        connect = await result_from_thread(_sdk)
        self._connection = connect(self._config)

    async def check(self) -> None:
        """See Engine.check. Asks for the model, which is free."""
        await retry(self._calls.check, self._pause)

    async def stop(self) -> None:
        """See Engine.stop."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. Closing it closes the connections; the service may go on, and bill.

        The handle says no more than that requests were sent: the service cannot be asked about them.

        Raises:
            ContentFilteredError: the service refused the prompt, a picture sent or a picture made.
            EngineUncertainError: a connection broke, the deadline came, or the process died
                meanwhile; the service may have been paid, so nothing is sent again.
            EngineError: see `vendors.errors`.
        """
        if isinstance(task, AudioTask):
            raise UnsupportedError("audio", "this engine makes no sound")
        require_not_submitted(_NAME, task)
        order = await result_from_thread(partial(order_of, task, self._config))
        yield Stage(name="generate")
        yield SUBMITTING
        previews: Previews = asyncio.Queue()
        pictures = [asyncio.create_task(self._picture(order, task, previews)) for _ in task.seeds]
        try:
            async with aclosing(_merged(pictures, previews, task)) as events:
                async for event in events:
                    yield event
        finally:
            for picture in pictures:
                picture.cancel()
            await asyncio.gather(*pictures, return_exceptions=True)

    async def _picture(self, order: Order, task: ImageTask, previews: Previews) -> Encoded | Pixels:
        try:
            async with asyncio.timeout(self._config.deadline_seconds):
                result = await self._result(order, previews)
        except TimeoutError as error:
            raise errors.translate_transport(_NAME, error, paid=True) from error
        else:
            return await result_from_thread(partial(_decoded, result, task))
        finally:
            previews.put_nowait(None)

    async def _result(self, order: Order, previews: Previews) -> File:
        answer = await retry(partial(self._calls.answer, order), self._pause)
        async with aclosing(self._calls.files(answer)) as files:
            async for file in files:
                if file.final:
                    return file
                preview = await result_from_thread(partial(_preview, file))
                if preview is not None:
                    previews.put_nowait(preview)
        raise AssertionError("the last file is final")

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self._delay_scale)

    @property
    def _calls(self) -> Calls:
        if self._connection is None:
            raise EngineUnavailableError("the openai engine has not been started")
        return self._connection


async def _merged(
    pictures: list[asyncio.Task[Encoded | Pixels]], previews: Previews, task: ImageTask
) -> AsyncGenerator[Event]:
    """Previews as they come, pictures in the order of their seeds; how many steps there are is not known."""
    step = given = 0
    while given < len(pictures):
        preview = await previews.get()
        if preview is not None:
            step += 1
            yield Step(index=step, total=0, preview=preview)
            continue
        for picture in pictures:
            if picture.done():
                picture.result()  # raises at once what has failed
        while given < len(pictures) and pictures[given].done():
            step += 1
            yield Step(index=step, total=0)
            yield Output(media=pictures[given].result(), seed=task.seeds[given])
            given += 1


def _sdk() -> Callable[[OpenaiConfig], Calls]:
    from atelier_engines.vendors.openai.calls import Calls  # noqa: PLC0415 (takes a second)

    return Calls


def _decoded(file: File, task: ImageTask) -> Encoded | Pixels:
    return load_result_image(_NAME, file.data(), width=task.width, height=task.height)


def _preview(file: File) -> Encoded | None:
    """None if it is broken: no reason to lose the picture."""
    try:
        with Image.open(io.BytesIO(file.data()), formats=("PNG", "JPEG", "WEBP")) as image:
            return preview_from_image(image.convert("RGB"))
    except (EngineFailedError, OSError, SyntaxError, ValueError):
        return None
