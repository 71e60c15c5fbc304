"""The openai engine: one request per image, answered when the image is ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from atelier_engines.errors import EngineFailedError
from atelier_engines.event import Charge, Event, Output, Stage, Step
from atelier_engines.media import Encoded, Pixels
from atelier_engines.retrying import retry
from atelier_engines.task import ImageTask
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors import errors
from atelier_engines.vendors.at_most_once import SUBMITTING, require_not_submitted
from atelier_engines.vendors.concurrency import run_concurrently
from atelier_engines.vendors.engine import RemoteEngine
from atelier_engines.vendors.images import load_preview, load_result
from atelier_engines.vendors.openai.capabilities import build_capabilities
from atelier_engines.vendors.openai.charges import find_charge
from atelier_engines.vendors.openai.config import OpenaiConfig
from atelier_engines.vendors.openai.requests import ImageRequest, build_request

if TYPE_CHECKING:
    from atelier_engines.vendors.openai.sdk import Base64Image, OpenaiClient

_NAME = "openai"
_log = logging.getLogger(__name__)
Previews = asyncio.Queue[Encoded | None]
"""Previews of all images as they arrive; None whenever an image has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Generated:
    media: Encoded | Pixels
    charge: Charge | None


class OpenaiEngine(RemoteEngine["OpenaiClient"]):
    """Image models behind https://api.openai.com.

    Closing a task closes its connections; the service may still finish, and bill. The handle only says
    that requests were sent: the service cannot look them up.
    """

    name: ClassVar[str] = _NAME

    def __init__(self, config: OpenaiConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet; `delay_scale` multiplies every pause."""
        super().__init__(build_capabilities(config))
        self._config = config
        self._delay_scale = delay_scale
        self._announced: str | None = None

    async def check(self) -> None:
        """See Engine.check. Requests the model's description, which is free, and logs when its end is announced."""
        shutdown = await retry(self._connection.check, self._pause)
        if shutdown is not None and shutdown != self._announced:
            self._announced = shutdown
            model = self._config.model
            _log.warning("openai_model_ends", extra={"model": model, "date": shutdown})

    async def _connect(self) -> OpenaiClient:
        """Load the SDK; it connects with the first request."""
        client_class = await result_from_thread(_load_client_class)
        return client_class(self._config)

    async def _run_image(self, task: ImageTask) -> AsyncGenerator[Event]:
        """Run the task, one paid request per image.

        Raises:
            ContentFilteredError: the service rejected the prompt, an input image or the result.
            EngineUncertainError: a connection broke, the request timed out, or the process died
                meanwhile; the service may have been paid, so nothing is sent again.
            EngineError: see `vendors.errors`.
        """
        require_not_submitted(_NAME, task)
        request = await result_from_thread(partial(build_request, task, self._config))
        yield Stage(name="generate")
        yield SUBMITTING
        previews: Previews = asyncio.Queue()
        requests = (self._generate_image(request, task, previews) for _ in task.seeds)
        async with (
            run_concurrently(requests) as images,
            aclosing(_merge_events(images, previews, task)) as events,
        ):
            async for event in events:
                yield event

    async def _generate_image(
        self, request: ImageRequest, task: ImageTask, previews: Previews
    ) -> _Generated:
        try:
            async with asyncio.timeout(self._config.timeout_seconds):
                result = await self._request_image(request, previews)
        except TimeoutError as error:
            raise errors.translate_transport(_NAME, error, paid=True) from error
        else:
            media = await load_result(_NAME, result.decode(), task)
            charge = None if result.usage is None else find_charge(result.usage, self._config)
            return _Generated(media=media, charge=charge)
        finally:
            previews.put_nowait(None)

    async def _request_image(self, request: ImageRequest, previews: Previews) -> Base64Image:
        client = self._connection
        response = await retry(partial(client.send, request), self._pause)
        async with aclosing(client.receive(response)) as images:
            async for image in images:
                if image.final:
                    return image
                preview = await _load_preview(image)
                if preview is not None:
                    previews.put_nowait(preview)
        raise AssertionError("the last image is final")

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self._delay_scale)


async def _merge_events(
    images: list[asyncio.Task[_Generated]], previews: Previews, task: ImageTask
) -> AsyncGenerator[Event]:
    """Yield previews as they arrive, and images in the order of their seeds; the total of steps is unknown."""
    step = yielded = 0
    while yielded < len(images):
        preview = await previews.get()
        if preview is not None:
            step += 1
            yield Step(index=step, total=0, preview=preview)
            continue
        for image in images:
            if image.done():
                image.result()  # raises the error of any image at once
        while yielded < len(images) and images[yielded].done():
            step += 1
            yield Step(index=step, total=0)
            made = images[yielded].result()
            yield Output(media=made.media, seed=task.seeds[yielded], charge=made.charge)
            yielded += 1


def _load_client_class() -> Callable[[OpenaiConfig], OpenaiClient]:
    from atelier_engines.vendors.openai.sdk import OpenaiClient  # noqa: PLC0415 (takes a second)

    return OpenaiClient


async def _load_preview(image: Base64Image) -> Encoded | None:
    """Return the preview, or None if it cannot be decoded: a broken preview is no failure."""
    try:
        data = image.decode()
    except EngineFailedError:
        return None
    return await load_preview(data)
