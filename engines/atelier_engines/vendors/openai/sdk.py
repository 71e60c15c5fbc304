"""Client of the image API through OpenAI's SDK, one image per request. Its import takes a second."""

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
from atelier_engines.vendors.openai.errors import NAME, translate_sdk_errors
from atelier_engines.vendors.openai.requests import ImageRequest
from atelier_engines.vendors.openai.token_prices import TokenUsage
from atelier_engines.vendors.openai.usage import read_usage

SdkResponse = ImagesResponse | AsyncStream[ImageGenStreamEvent] | AsyncStream[ImageEditStreamEvent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Base64Image:
    """An image as the service sends it."""

    text: str
    """The image file in base64."""
    final: bool
    """Whether it is the result; otherwise it is a preview."""
    usage: TokenUsage | None = None
    """Tokens of the request and the result; None for previews, and from services that do not count."""

    def decode(self) -> bytes:
        """Decode the image file.

        Raises:
            EngineFailedError: the text is not valid base64.
        """
        try:
            return base64.b64decode(self.text, validate=True)
        except ValueError as error:
            raise EngineFailedError(f"{NAME} sent an image that is not valid base64") from error


class OpenaiClient:
    """Client of the service."""

    def __init__(self, config: OpenaiConfig) -> None:
        """Connect to nothing yet. The SDK's own retries are off: they would pay twice."""
        self._config = config
        self._key = config.api_key.get_secret_value()
        self._client = AsyncOpenAI(
            api_key=self._key,
            organization=config.organization,
            project=config.project,
            base_url=config.base_url,
            max_retries=0,
            http_client=connect(config.base_url, read_timeout_seconds=config.timeout_seconds),
        )

    async def check(self) -> str | None:
        """The day on which the model is shut down, if one is announced; the API key is valid and the model exists."""
        with translate_sdk_errors(self._key, self._config.model, paid=False):
            return (await self._client.models.retrieve(self._config.model)).shutdown_date

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def send(self, request: ImageRequest) -> SdkResponse:
        """Request one image; the response is a stream if previews are wanted.

        Raises:
            RetryableError: the service started nothing, and another attempt may succeed.
            EngineError: see `openai.errors`.
        """
        with translate_sdk_errors(self._key, self._config.model, paid=True):
            return await (self._generate(request) if request.image is None else self._edit(request))

    async def receive(self, response: SdkResponse) -> AsyncGenerator[Base64Image]:
        """Yield the previews, if any, and then the result.

        Raises:
            ContentFilteredError: the service rejected the result.
            EngineFailedError: the service failed, or sent no image.
            EngineUncertainError: the response broke off, or is not valid.
        """
        if not isinstance(response, AsyncStream):
            yield _single_image(response)
            return
        with translate_sdk_errors(self._key, self._config.model, paid=True):
            async with response as events:
                async for event in events:
                    final = event.type.endswith(".completed")
                    if final:
                        usage = read_usage(event)
                        yield Base64Image(text=event.b64_json, final=True, usage=usage)
                        return
                    if event.type.endswith(".partial_image"):
                        yield Base64Image(text=event.b64_json, final=False)
        raise errors.invalid_response(NAME, "that ended without the image", paid=True)

    async def _generate(self, request: ImageRequest) -> SdkResponse:
        return await self._client.images.generate(
            model=self._config.model,
            prompt=request.prompt,
            n=1,
            size=request.size,
            quality=request.quality or omit,
            background=request.background or omit,
            moderation=request.moderation or omit,
            output_format=self._config.output_format,
            stream=request.previews > 0,
            partial_images=request.previews or omit,
        )

    async def _edit(self, request: ImageRequest) -> SdkResponse:
        return await self._client.images.edit(
            model=self._config.model,
            prompt=request.prompt,
            image=[("image.png", request.image or b"", "image/png")],
            mask=omit if request.mask is None else ("mask.png", request.mask, "image/png"),
            n=1,
            size=request.size,
            quality=request.quality or omit,
            background=request.background or omit,
            output_format=self._config.output_format,
            stream=request.previews > 0,
            partial_images=request.previews or omit,
        )


def _single_image(response: ImagesResponse) -> Base64Image:
    if not isinstance(response, ImagesResponse):  # the SDK returns an HTML page as text
        raise errors.invalid_response(NAME, "of an unknown shape", paid=True)
    images = response.data or []
    if not images or not images[0].b64_json:
        raise EngineFailedError(f"{NAME} responded without an image")
    usage = read_usage(response)
    return Base64Image(text=images[0].b64_json, final=True, usage=usage)
