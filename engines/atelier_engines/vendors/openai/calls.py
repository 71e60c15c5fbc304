"""The calls of OpenAI's SDK, one picture each. Importing it takes a second, so only `start` does."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from openai import AsyncOpenAI, AsyncStream, omit
from openai.types import (
    ImageEditStreamEvent,
    ImageGenStreamEvent,
    ImagesResponse,
)

from atelier_engines.errors import EngineFailedError
from atelier_engines.vendors import errors
from atelier_engines.vendors.client import connect
from atelier_engines.vendors.openai.config import OpenaiConfig
from atelier_engines.vendors.openai.errors import NAME, translated
from atelier_engines.vendors.openai.orders import Order

Answer = ImagesResponse | AsyncStream[ImageGenStreamEvent] | AsyncStream[ImageEditStreamEvent]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A picture as it came, in base64."""

    text: str
    """Base64."""
    final: bool
    """Whether it is the result; else a preview."""

    def data(self) -> bytes:
        """Its bytes; blocks.

        Raises:
            EngineFailedError: it is no base64.
        """
        try:
            return base64.b64decode(self.text, validate=True)
        except ValueError as error:
            raise EngineFailedError(f"{NAME} sent a picture that is no base64") from error


class Calls:
    """A connection to the service."""

    def __init__(self, config: OpenaiConfig) -> None:
        """Connect with the first call. Nothing is ever repeated by the SDK: it would pay twice."""
        self._config = config
        self._key = config.api_key.get_secret_value()
        self._client = AsyncOpenAI(
            api_key=self._key,
            organization=config.organization,
            project=config.project,
            base_url=config.base_url,
            max_retries=0,
            http_client=connect(config.base_url, read_timeout_seconds=config.deadline_seconds),
        )

    async def check(self) -> None:
        """Return if the key is good and the model there."""
        with translated(self._key, paid=False):
            await self._client.models.retrieve(self._config.model)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def answer(self, order: Order) -> Answer:
        """Begin one picture: the answer whole, or a stream of it when previews are wanted.

        Raises:
            AgainError: nothing was begun, and another try may help.
            EngineError: see `refusals`.
        """
        with translated(self._key, paid=True):
            return await (self._generate(order) if order.image is None else self._edit(order))

    async def files(self, answer: Answer) -> AsyncGenerator[File]:
        """Previews, if there are any, and at last the picture.

        Raises:
            ContentFilteredError: the service refused what it had made.
            EngineFailedError: it failed, or gave no picture.
            EngineUncertainError: the answer broke off, or makes no sense.
        """
        if not isinstance(answer, AsyncStream):
            yield _only(answer)
            return
        with translated(self._key, paid=True):
            async with answer as events:
                async for event in events:
                    final = event.type.endswith(".completed")
                    if final or event.type.endswith(".partial_image"):
                        yield File(text=event.b64_json, final=final)
                    if final:
                        return
        raise errors.invalid_response(NAME, "that ended without the picture", paid=True)

    async def _generate(self, order: Order) -> Answer:
        return await self._client.images.generate(
            model=self._config.model,
            prompt=order.prompt,
            n=1,
            size=order.size,
            quality=order.quality or omit,
            background=order.background or omit,
            moderation=self._config.moderation or omit,
            output_format=self._config.output_format,
            stream=order.previews > 0,
            partial_images=order.previews or omit,
        )

    async def _edit(self, order: Order) -> Answer:
        return await self._client.images.edit(
            model=self._config.model,
            prompt=order.prompt,
            image=[("image.png", order.image or b"", "image/png")],
            mask=omit if order.mask is None else ("mask.png", order.mask, "image/png"),
            n=1,
            size=order.size,
            quality=order.quality or omit,
            background=order.background or omit,
            output_format=self._config.output_format,
            stream=order.previews > 0,
            partial_images=order.previews or omit,
        )


def _only(answer: ImagesResponse) -> File:
    if not isinstance(answer, ImagesResponse):  # a page, which the SDK passes on as text
        raise errors.invalid_response(NAME, "of an unknown shape", paid=True)
    pictures = answer.data or []
    if not pictures or not pictures[0].b64_json:
        raise EngineFailedError(f"{NAME} answered without a picture")
    return File(text=pictures[0].b64_json, final=True)
