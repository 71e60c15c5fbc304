"""A fake Ideogram: it responds when the images are ready, with their URLs on another host."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiohttp import web
from PIL import Image

from atelier_engines.conformance.fake_server import serve
from atelier_engines.conformance.remote_service import FakeService
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from atelier_engines.vendors.ideogram.config import IdeogramConfig
from atelier_engines.vendors.ideogram.engine import IdeogramEngine

KEY = "ideogram-key-of-the-tests"
TASK = ImageTask(prompt="a lighthouse", width=1024, height=1024, seeds=(7,))
_COMMON = {
    "prompt",
    "seed",
    "rendering_speed",
    "magic_prompt",
    "num_images",
    "style_type",
    "style_preset",
}
FIELDS: Mapping[str, set[str]] = {
    "generate": _COMMON | {"resolution", "negative_prompt"},
    "remix": _COMMON | {"resolution", "negative_prompt", "image", "image_weight"},
    "inpaint": _COMMON | {"image", "mask"},
}
_SPEEDS = {"FLASH", "TURBO", "DEFAULT", "BALANCED", "QUALITY"}
_SIZES = {"1024x1024", "1280x768", "768x1280", "1536x512", "1088x960", "960x1088"}


@dataclass(frozen=True, slots=True)
class PaidRequest:
    """A request that was accepted, and is paid for."""

    kind: str
    fields: Mapping[str, Any]
    images: Mapping[str, Image.Image]


@dataclass(slots=True, kw_only=True)
class StandIn(FakeService):
    """The API and the storage."""

    api: str = ""
    storage: str = ""
    paid: list[PaidRequest] = field(default_factory=list)
    data: list[dict[str, Any]] | None = None
    """Replaces the data of every response."""

    task: ClassVar[ImageTask] = TASK
    resumable: ClassVar[bool] = False
    cancellable: ClassVar[bool] = False
    specific_statuses: ClassVar[frozenset[int]] = frozenset({422})

    def engine(self, **settings: object) -> Engine:
        """See FakeService.engine."""
        config = {"api_key": KEY, "base_url": self.api, **settings}
        return IdeogramEngine(IdeogramConfig.model_validate(config), delay_scale=0.01)

    @property
    def accepted(self) -> int:
        """See FakeService.accepted."""
        return len(self.paid)

    def reset(self) -> None:
        """See FakeService.reset."""
        FakeService.reset(self)
        self.paid.clear()
        self.data = None

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/ideogram-v3/{kind}."""
        kind = request.match_info["kind"]
        if request.headers.get("Api-Key") != KEY:
            return web.json_response({"error": "bad key"}, status=403 if kind == "remix" else 401)
        scripted = self.submits.next_handler()
        if scripted is not None:
            return await scripted(request)
        fields, images = await _read(request)
        problems = list(_find_problems(kind, fields, images))
        if problems:
            return web.json_response({"error": "; ".join(problems)}, status=400)
        self.paid.append(PaidRequest(kind, fields, images))
        image = {"url": f"{self.storage}/{len(self.paid) - 1}?sig=abc", "is_image_safe": True}
        image |= {"seed": int(fields["seed"]), "prompt": fields["prompt"]}
        data = [image] if self.data is None else self.data
        return web.json_response({"created": "2026-11-21T00:00:00Z", "data": data})

    async def download(self, request: web.Request) -> web.StreamResponse:
        """GET of an image."""
        self.leaks += "Api-Key" in request.headers
        scripted = self.downloads.next_handler()
        if scripted is not None:
            return await scripted(request)
        paid = self.paid[int(request.match_info["number"])]
        return web.Response(body=generated(paid), content_type="image/png")


def generated(request: PaidRequest) -> bytes:
    """A PNG file whose colour depends on the whole request."""
    if "image" in request.images and "resolution" not in request.fields:
        size = request.images["image"].size
    else:
        width, _, height = request.fields["resolution"].partition("x")
        size = int(width), int(height)
    fields = {name: str(value) for name, value in request.fields.items()}
    images = [image.tobytes() for image in request.images.values()]
    colour = zlib.crc32(repr((sorted(fields.items()), images)).encode()) & 0xFFFFFF
    file = io.BytesIO()
    Image.new("RGB", size, f"#{colour:06x}").save(file, "PNG", compress_level=1)
    return file.getvalue()


async def _read(request: web.Request) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    if request.content_type == "application/json":
        return await request.json(), {}
    fields: dict[str, Any] = {}
    images: dict[str, Image.Image] = {}
    for name, value in (await request.post()).items():
        if isinstance(value, web.FileField):
            images[name] = Image.open(io.BytesIO(value.file.read()))
        else:
            fields[name] = value
    return fields, images


def _find_problems(
    kind: str, fields: Mapping[str, Any], images: Mapping[str, Image.Image]
) -> Iterator[str]:
    for name in (fields.keys() | images.keys()) - FIELDS[kind]:
        yield f"unknown field {name}"
    if ("image" in FIELDS[kind]) != ("image" in images):
        yield "image is missing or unexpected"
    if not 0 <= int(fields["seed"]) < 2**31:
        yield "seed out of range"
    if fields.get("rendering_speed") not in _SPEEDS:
        yield "unknown rendering_speed"
    if "resolution" in FIELDS[kind] and fields.get("resolution") not in _SIZES:
        yield f"unknown resolution {fields.get('resolution')}"
    if not 1 <= int(fields.get("image_weight", 50)) <= 100:
        yield "image_weight out of range"
    if kind == "inpaint":
        mask = images["mask"]
        if mask.size != images["image"].size or not set(mask.convert("L").tobytes()) <= {0, 255}:
            yield "mask does not fit"


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """Start the fake service."""
    service = StandIn()
    api, storage = web.Application(client_max_size=2**25), web.Application()
    api.router.add_post("/v1/ideogram-v3/{kind}", service.generate)
    storage.router.add_get("/{number}", service.download)
    with serve(api, storage) as (service.api, service.storage):
        yield service
