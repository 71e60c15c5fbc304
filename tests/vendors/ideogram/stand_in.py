"""Ideogram's side of the wire: answers when the pictures are ready, which lie elsewhere."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from PIL import Image

from atelier_engines.conformance.fake_server import ResponseQueue, serve

KEY = "ideogram-key-of-the-tests"
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
class Asked:
    """A request that was done, and is paid for."""

    kind: str
    fields: Mapping[str, Any]
    images: Mapping[str, Image.Image]


@dataclass(slots=True)
class StandIn:
    """Honest unless told otherwise."""

    api: str = ""
    storage: str = ""
    paid: list[Asked] = field(default_factory=list)
    leaks: int = 0
    orders: ResponseQueue = field(default_factory=ResponseQueue)
    results: ResponseQueue = field(default_factory=ResponseQueue)
    data: list[dict[str, Any]] | None = None
    """Replaces the data of every answer."""

    def reset(self) -> None:
        """Be honest again, and forget everything."""
        self.paid.clear()
        self.leaks, self.data = 0, None
        self.orders.clear()
        self.results.clear()

    async def order(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/ideogram-v3/{kind}."""
        kind = request.match_info["kind"]
        if request.headers.get("Api-Key") != KEY:
            return web.json_response({"error": "bad key"}, status=403 if kind == "remix" else 401)
        trouble = self.orders.next_handler()
        if trouble is not None:
            return await trouble(request)
        fields, images = await _read(request)
        wrong = list(_wrong(kind, fields, images))
        if wrong:
            return web.json_response({"error": "; ".join(wrong)}, status=400)
        self.paid.append(Asked(kind, fields, images))
        answer = {"url": f"{self.storage}/{len(self.paid) - 1}?sig=abc", "is_image_safe": True}
        answer |= {"seed": int(fields["seed"]), "prompt": fields["prompt"]}
        data = [answer] if self.data is None else self.data
        return web.json_response({"created": "2026-11-21T00:00:00Z", "data": data})

    async def result(self, request: web.Request) -> web.StreamResponse:
        """GET of a picture."""
        self.leaks += "Api-Key" in request.headers
        trouble = self.results.next_handler()
        if trouble is not None:
            return await trouble(request)
        return web.Response(
            body=drawn(self.paid[int(request.match_info["number"])]), content_type="image/png"
        )


def drawn(asked: Asked) -> bytes:
    """A picture that depends on all that was asked."""
    if "image" in asked.images and "resolution" not in asked.fields:
        size = asked.images["image"].size
    else:
        width, _, height = asked.fields["resolution"].partition("x")
        size = int(width), int(height)
    told = {name: str(value) for name, value in asked.fields.items()}
    images = [image.tobytes() for image in asked.images.values()]
    colour = zlib.crc32(repr((sorted(told.items()), images)).encode()) & 0xFFFFFF
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


def _wrong(
    kind: str, fields: Mapping[str, Any], images: Mapping[str, Image.Image]
) -> Iterator[str]:
    for name in (fields.keys() | images.keys()) - FIELDS[kind]:
        yield f"unknown field {name}"
    if ("image" in FIELDS[kind]) != ("image" in images):
        yield "image is missing"
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
    """A running one."""
    made = StandIn()
    api, storage = web.Application(client_max_size=2**25), web.Application()
    api.router.add_post("/v1/ideogram-v3/{kind}", made.order)
    storage.router.add_get("/{number}", made.result)
    with serve(api, storage) as (made.api, made.storage):
        yield made
