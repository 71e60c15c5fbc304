"""Runs tasks at Ideogram: one request a picture, answered when the picture is ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from functools import partial

from pydantic import BaseModel

from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineUnavailableError,
    UnsupportedError,
)
from atelier_engines.event import Event, Output, Stage, Step
from atelier_engines.media import Encoded, Pixels
from atelier_engines.task import AudioTask, ImageTask, Task
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors import errors
from atelier_engines.vendors.at_most_once import SUBMITTING, require_not_submitted
from atelier_engines.vendors.client import VendorClient, connect
from atelier_engines.vendors.ideogram.capabilities import abilities
from atelier_engines.vendors.ideogram.config import IdeogramConfig
from atelier_engines.vendors.ideogram.requests import Order, order_of
from atelier_engines.vendors.images import load_result_image
from atelier_engines.vendors.responses import Response

_NAME = "ideogram"
_CONTENT_REFUSED = 422
_KINDS = ("image/", "application/octet-stream", "binary/octet-stream")
_LONGEST_REASON = 200


class _Picture(BaseModel):
    """One picture of an answer."""

    url: str | None = None
    """Where it lies for a while; absent when it is not safe."""
    is_image_safe: bool = True
    """Whether it passed the service's check."""


class _Made(BaseModel):
    """An answer."""

    data: list[_Picture]
    """As many as were asked for, or fewer."""


class IdeogramEngine:
    """Version 3 of the models behind https://api.ideogram.ai."""

    def __init__(self, config: IdeogramConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet. `delay_scale` multiplies every pause; tests make it small."""
        self._config = config
        self._delay_scale = delay_scale
        self._capabilities = abilities(config)
        self._connection: VendorClient | None = None

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start. Connects with the first request."""
        deadline, key = self._config.deadline_seconds, self._config.api_key.get_secret_value()
        client = connect(
            self._config.base_url, headers={"Api-Key": key}, read_timeout_seconds=deadline
        )
        self._connection = VendorClient(
            name=_NAME,
            client=client,
            translate_error=partial(_refusal, key),
            delay_scale=self._delay_scale,
            response_timeout_seconds=deadline,
        )

    async def check(self) -> None:
        """See Engine.check. The service has nothing that can be asked for free."""
        _ = self._vendor

    async def stop(self) -> None:
        """See Engine.stop."""
        if self._connection is not None:
            await self._connection.client.aclose()
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
        pictures = [asyncio.create_task(self._picture(order, seed, task)) for seed in task.seeds]
        try:
            for number, (picture, seed) in enumerate(zip(pictures, task.seeds, strict=True), 1):
                media = await picture
                yield Step(index=number, total=len(pictures))
                yield Output(media=media, seed=seed)
        finally:
            for picture in pictures:
                picture.cancel()
            await asyncio.gather(*pictures, return_exceptions=True)

    async def _picture(self, order: Order, seed: int, task: ImageTask) -> Encoded | Pixels:
        content = order.content_for(seed)
        made = await self._vendor.submit_once("POST", order.path, model=_Made, **content)
        if not made.data:
            raise EngineFailedError("ideogram answered without a picture")
        picture = made.data[0]
        if not picture.is_image_safe:
            raise ContentFilteredError("ideogram held back the picture made; change the prompt")
        if not picture.url:
            raise EngineFailedError("ideogram does not say where the picture is")
        with errors.after_acceptance(_NAME):
            file = await self._vendor.download(picture.url, kinds=_KINDS)
        decode = partial(load_result_image, _NAME, file.data, width=task.width, height=task.height)
        return await result_from_thread(decode)

    @property
    def _vendor(self) -> VendorClient:
        if self._connection is None:
            raise EngineUnavailableError("the ideogram engine has not been started")
        return self._connection


def _refusal(key: str, answer: Response) -> EngineError | None:
    if answer.status != _CONTENT_REFUSED:
        return None
    why = answer.error_message((key,))[:_LONGEST_REASON]
    return ContentFilteredError(f"ideogram refused the prompt or a picture sent: {why or 'unsafe'}")
