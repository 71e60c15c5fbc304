"""A fake OpenAI: JSON and forms in, base64 or a stream of events out."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

from aiohttp import web
from openai.types import ImageModel
from PIL import Image

from atelier_engines.conformance.fake_server import Handler, serve
from atelier_engines.conformance.remote_service import FakeService
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from atelier_engines.vendors.openai.config import OpenaiConfig
from atelier_engines.vendors.openai.engine import OpenaiEngine

KEY = "sk-of-the-tests-12345"
TASK = ImageTask(prompt="a lighthouse", width=768, height=864, seeds=(7,))
MODELS = set(get_args(ImageModel)) - {"dall-e-2", "dall-e-3", "gpt-image-1"}
ANY_SIZE = {name for name in MODELS if name.startswith("gpt-image-2")}
_COMMON = {
    "model",
    "prompt",
    "n",
    "size",
    "quality",
    "background",
    "output_format",
    "stream",
    "partial_images",
}
FIELDS: Mapping[str, set[str]] = {
    "generations": _COMMON | {"moderation"},
    "edits": _COMMON | {"image[]", "mask"},
}
_FIXED = {"1024x1024", "1536x1024", "1024x1536"}
_PIXELS = range(655_360, 3840 * 2160 + 1)
_MAX_SIDE = 3840
_MAX_MASK_BYTES, _MAX_IMAGE_BYTES = 4_000_000, 50_000_000
_LIMITS = {"x-request-id": "req-1", "x-ratelimit-remaining-requests": "59"}


@dataclass(frozen=True, slots=True)
class PaidRequest:
    """A request that was accepted, and is paid for."""

    kind: str
    fields: Mapping[str, str]
    images: Mapping[str, UploadedImage]


@dataclass(frozen=True, slots=True)
class UploadedImage:
    """A file of a form."""

    image: Image.Image
    num_bytes: int


@dataclass(slots=True, kw_only=True)
class StandIn(FakeService):
    """The API."""

    api: str = ""
    paid: list[PaidRequest] = field(default_factory=list)
    arrived: int = 0
    """Number of requests that arrived, accepted or not."""
    disconnected: int = 0
    """Number of callers that disconnected before their response."""
    changed: dict[str, Any] = field(default_factory=dict)
    """Replaces fields of every response."""
    end: list[dict[str, Any]] | None = None
    """Replaces the events of a stream after the previews; no event at all if empty."""
    partials: int | None = None
    """Number of previews that are sent, whatever was requested."""
    shutdown_date: str | None = None
    """The announced end of every model."""

    task: ClassVar[ImageTask] = TASK
    resumable: ClassVar[bool] = False
    cancellable: ClassVar[bool] = False
    downloadable: ClassVar[bool] = False

    def engine(self, **settings: object) -> Engine:
        """See FakeService.engine."""
        config = {"api_key": KEY, "base_url": self.api, **settings}
        return OpenaiEngine(OpenaiConfig.model_validate(config), delay_scale=0.01)

    def reject(self, status: int, message: str) -> Handler:
        """See FakeService.reject."""
        return failing(status, "some_code", message)

    @property
    def accepted(self) -> int:
        """See FakeService.accepted."""
        return len(self.paid)

    def reset(self) -> None:
        """See FakeService.reset."""
        FakeService.reset(self)
        self.paid.clear()
        self.arrived = self.disconnected = 0
        self.changed.clear()
        self.end = self.partials = self.shutdown_date = None

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """POST /images/{kind}."""
        self.arrived += 1
        kind = request.match_info["kind"]
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            shown = request.headers["Authorization"].removeprefix("Bearer ")
            return await failing(401, "invalid_api_key", f"Incorrect API key: {shown}")(request)
        scripted = self.submits.next_handler()
        if scripted is not None:
            try:
                return await scripted(request)
            except asyncio.CancelledError:
                self.disconnected += 1
                raise
        fields, images = await _read(request)
        problem = next(_find_problems(kind, fields, images), None)
        if problem is not None:
            return await failing(400, "invalid_value", problem)(request)
        if fields["model"] not in MODELS:
            return await failing(404, "model_not_found", "no such model")(request)
        self.paid.append(PaidRequest(kind, fields, images))
        if fields.get("stream") == "true":
            return await self._stream(request, fields, kind)
        data = [{"b64_json": generated(fields)} for _ in range(int(fields.get("n", 1)))]
        answer = {"created": 1, "size": fields["size"], "data": data, "usage": USAGE}
        return web.json_response(answer | self.changed, headers=_LIMITS)

    async def _stream(
        self, request: web.Request, fields: Mapping[str, str], kind: str
    ) -> web.StreamResponse:
        name = "image_generation" if kind == "generations" else "image_edit"
        response = web.StreamResponse(headers={"content-type": "text/event-stream"} | _LIMITS)
        await response.prepare(request)
        common = {"created_at": 1, "size": fields["size"], "quality": "low", "background": "auto"}
        count = int(fields["partial_images"]) if self.partials is None else self.partials
        events = [
            {"type": f"{name}.partial_image", "partial_image_index": index}
            for index in range(count)
        ]
        done = {"type": f"{name}.completed", "usage": USAGE}
        for event in [*events, *([done] if self.end is None else self.end)]:
            sent = {**common, "b64_json": generated(fields), "output_format": "png", **event}
            kept = {"error": event["error"]} if "error" in event else sent | self.changed
            line = f"event: {event.get('type', 'error')}\ndata: {json.dumps(kept)}\n\n"
            await response.write(line.encode())
        return response

    async def model(self, request: web.Request) -> web.StreamResponse:
        """GET /models/{name}."""
        name = request.match_info["name"]
        if name not in MODELS:
            return await failing(404, "model_not_found", f"no model {name}")(request)
        answer = {"id": name, "object": "model", "created": 1, "owned_by": "system"}
        return web.json_response({**answer, "shutdown_date": self.shutdown_date})


USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 20, "image_tokens": 30},
    "output_tokens": 1000,
    "total_tokens": 1050,
}


def failing(status: int, code: str, message: str = "because", **headers: str) -> Handler:
    """An error in the shape of the service."""

    async def answer(_: web.Request) -> web.StreamResponse:
        error = {"message": message, "type": "some_error", "param": None, "code": code}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response({"error": error}, status=status, headers=named)

    return answer


def generated(fields: Mapping[str, str]) -> str:
    """An image of the requested size and format, in base64."""
    width, _, height = fields["size"].partition("x")
    file = io.BytesIO()
    image = Image.new("RGB", (int(width), int(height)), "teal")
    image.save(file, fields.get("output_format", "png"))
    return base64.b64encode(file.getvalue()).decode()


async def _read(request: web.Request) -> tuple[dict[str, str], dict[str, UploadedImage]]:
    if request.content_type == "application/json":
        body = await request.json()
        return {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in body.items()
        }, {}
    fields: dict[str, str] = {}
    images: dict[str, UploadedImage] = {}
    for name, value in (await request.post()).items():
        if isinstance(value, web.FileField):
            data = value.file.read()
            images[name] = UploadedImage(Image.open(io.BytesIO(data)), len(data))
        else:
            fields[name] = str(value)
    return fields, images


def _find_problems(
    kind: str, fields: Mapping[str, str], images: Mapping[str, UploadedImage]
) -> Iterator[str]:
    for name in (fields.keys() | images.keys()) - FIELDS[kind]:
        yield f"Unknown parameter: '{name}'."
    if fields["model"] in MODELS and not _is_valid_size(fields["model"], fields["size"]):
        yield f"Invalid size {fields['size']}"
    if fields.get("stream") == "true" and not 0 <= int(fields["partial_images"]) <= 3:
        yield "partial_images out of range"
    if kind == "edits":
        yield from _find_problems_of_images(images["image[]"], images.get("mask"))


def _is_valid_size(model: str, size: str) -> bool:
    width, height = (int(side) for side in size.split("x"))
    fits = max(width, height) <= min(_MAX_SIDE, 3 * min(width, height))
    on_grid = width % 16 == height % 16 == 0
    return size in _FIXED or (model in ANY_SIZE and on_grid and fits and width * height in _PIXELS)


def _find_problems_of_images(image: UploadedImage, mask: UploadedImage | None) -> Iterator[str]:
    if image.num_bytes >= _MAX_IMAGE_BYTES:
        yield "image must be less than 50MB"
    if mask is None:
        return
    if mask.image.size != image.image.size or mask.image.mode != "RGBA":
        yield "mask does not fit"
    if mask.image.format != "PNG" or mask.num_bytes >= _MAX_MASK_BYTES:
        yield "mask must be a PNG file of less than 4MB"


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """Start the fake service."""
    service = StandIn()
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/images/{kind}", service.generate)
    app.router.add_get("/v1/models/{name}", service.model)
    with serve(app) as (url,):
        service.api = f"{url}/v1"
        yield service
