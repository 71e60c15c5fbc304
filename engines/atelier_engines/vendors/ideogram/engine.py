"""The ideogram engine: one request per image, answered when the image is ready."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import ClassVar

from pydantic import BaseModel

from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
)
from atelier_engines.event import Event, Output, Stage, Step
from atelier_engines.media import Encoded, Pixels
from atelier_engines.task import ImageTask
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors import errors
from atelier_engines.vendors.at_most_once import SUBMITTING, require_not_submitted
from atelier_engines.vendors.client import VendorClient, connect
from atelier_engines.vendors.concurrency import run_concurrently
from atelier_engines.vendors.engine import RemoteEngine
from atelier_engines.vendors.ideogram.capabilities import build_capabilities
from atelier_engines.vendors.ideogram.config import IdeogramConfig
from atelier_engines.vendors.ideogram.requests import ImageRequest, build_request
from atelier_engines.vendors.images import load_result
from atelier_engines.vendors.responses import Response

_NAME = "ideogram"
_CONTENT_REJECTED = 422
_MEDIA_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")
_MAX_MESSAGE_LENGTH = 200


class _ResponseImage(BaseModel):
    """One image of a response."""

    url: str | None = None
    """Temporary URL; absent if the image is not safe."""
    is_image_safe: bool = True
    """Whether the image passed the service's safety check."""


class _Response(BaseModel):
    """Response to an image request."""

    data: list[_ResponseImage]
    """The requested images, or fewer."""


class IdeogramEngine(RemoteEngine[VendorClient]):
    """Version 3 of the models behind https://api.ideogram.ai.

    Closing a task closes its connections; the service may still finish, and bill. The handle only says
    that requests were sent: the service cannot look them up.
    """

    name: ClassVar[str] = _NAME

    def __init__(self, config: IdeogramConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet; `delay_scale` multiplies every pause."""
        super().__init__(build_capabilities(config))
        self._config = config
        self._delay_scale = delay_scale

    async def check(self) -> None:
        """See Engine.check. The service has no request that is free of charge."""
        _ = self._connection

    async def _connect(self) -> VendorClient:
        timeout, key = self._config.timeout_seconds, self._config.api_key.get_secret_value()
        return VendorClient(
            name=_NAME,
            client=connect(
                self._config.base_url, headers={"Api-Key": key}, read_timeout_seconds=timeout
            ),
            translate_error=partial(_translate_rejection, key),
            delay_scale=self._delay_scale,
            response_timeout_seconds=timeout,
        )

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
        async with run_concurrently(
            self._generate_image(request, seed, task) for seed in task.seeds
        ) as images:
            for number, (image, seed) in enumerate(zip(images, task.seeds, strict=True), 1):
                media = await image
                yield Step(index=number, total=len(images))
                yield Output(media=media, seed=seed)

    async def _generate_image(
        self, request: ImageRequest, seed: int, task: ImageTask
    ) -> Encoded | Pixels:
        client, content = self._connection, request.build_content(seed)
        response = await client.submit_once("POST", request.path, model=_Response, **content)
        if not response.data:
            raise EngineFailedError("ideogram responded without an image")
        image = response.data[0]
        if not image.is_image_safe:
            raise ContentFilteredError("ideogram withheld the result as unsafe; change the prompt")
        if not image.url:
            raise EngineFailedError("ideogram responded without the URL of the image")
        with errors.after_acceptance(_NAME):
            file = await client.download(image.url, kinds=_MEDIA_TYPES)
        return await load_result(_NAME, file.data, task)


def _translate_rejection(key: str, response: Response) -> EngineError | None:
    if response.status != _CONTENT_REJECTED:
        return None
    reason = response.error_message((key,))[:_MAX_MESSAGE_LENGTH]
    return ContentFilteredError(
        f"ideogram rejected the prompt or an input image: {reason or 'unsafe'}"
    )
