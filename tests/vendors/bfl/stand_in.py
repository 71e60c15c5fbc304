"""A fake of Black Forest Labs: submissions on one host, polls on a second, images on a third."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiohttp import web
from PIL import Image

from atelier_engines.conformance.fake_server import Handler, respond, serve
from atelier_engines.conformance.remote_service import FakeJob, FakeJobService, scripted
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from atelier_engines.vendors.bfl.config import BflConfig
from atelier_engines.vendors.bfl.engine import BflEngine

KEY = "bfl-key-of-the-tests"
TASK = ImageTask(prompt="a lighthouse", width=64, height=80, seeds=(7,))
_FLUX_2 = {"prompt", "seed", "width", "height", "safety_tolerance", "output_format", "input_image"}
_SHAPED = {"prompt", "seed", "aspect_ratio", "safety_tolerance", "output_format"} | {
    "prompt_upsampling"
}
FIELDS: Mapping[str, set[str]] = {
    "flux-2-pro": _FLUX_2,
    "flux-2-flex": _FLUX_2 | {"prompt_upsampling", "guidance", "steps"},
    "flux-kontext-pro": _SHAPED | {"input_image"},
    "flux-pro-1.1": (_FLUX_2 - {"input_image"}) | {"prompt_upsampling", "image_prompt"},
    "flux-pro-1.1-ultra": _SHAPED | {"raw", "image_prompt", "image_prompt_strength"},
    "flux-pro-1.0-fill": {"image", "mask"} | (_SHAPED - {"aspect_ratio"}),
}
_SIZES = {"16:9": (1344, 768), "1:1": (1024, 1024), "9:16": (768, 1344)}
PENDING = ({"progress": 0.25}, {"progress": None}, {"progress": 0.5}, {"progress": 0.5})


@dataclass(slots=True, kw_only=True)
class Job(FakeJob):
    """A job of one model."""

    model: str


def state(status: str, **fields: object) -> Handler:
    """A poll response."""
    return respond(200, {"id": "job-0", "status": status, "result": None, **fields})


@dataclass(slots=True, kw_only=True)
class StandIn(FakeJobService[Job]):
    """The API, a second region of it, and the storage."""

    api: str = ""
    region: str = ""
    storage: str = ""
    running: Handler | None = field(default_factory=lambda: state("Pending"))
    unknown_status: Handler | None = field(default_factory=lambda: state("Reasoning"))
    unknown_job: Handler = field(default_factory=lambda: state("Task not found"))
    submit_response: dict[str, Any] = field(default_factory=dict)
    """Replaces fields of the response to a submit; None removes them."""

    task: ClassVar[ImageTask] = TASK
    api_key: ClassVar[str] = KEY
    rejected_key_message: ClassVar[str] = "bad key"
    cancellable: ClassVar[bool] = False

    def engine(self, **settings: object) -> Engine:
        """See FakeService.engine."""
        config = {"api_key": KEY, "base_url": self.api, "poll_seconds": 0.001, **settings}
        return BflEngine(BflConfig.model_validate(config), delay_scale=0.02)

    def flag_next(self) -> ImageTask | None:
        """See FakeService.flag_next."""
        self.polls.add(state("Request Moderated", details={"Moderation Reasons": ["Violence"]}))
        return TASK

    def reset(self) -> None:
        """See FakeService.reset."""
        FakeJobService.reset(self)
        self.submit_response.clear()

    @scripted("submits")
    async def submit(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/{model}."""
        if request.headers.get("x-key") != KEY:
            return web.json_response({"detail": f"bad key {request.headers['x-key']}"}, status=403)
        model, body = request.match_info["model"], await request.json()
        wrong = list(_wrong(model, body))
        if wrong:
            return web.json_response({"detail": wrong}, status=422)
        name = f"job-{len(self.jobs)}"
        self.jobs[name] = Job(model=model, body=body)
        answer = {"id": name, "polling_url": f"{self.region}/v1/get_result?id={name}", "cost": 3.0}
        answer |= self.submit_response
        return web.json_response({key: value for key, value in answer.items() if value is not None})

    @scripted("polls")
    async def poll(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/get_result."""
        if request.headers.get("x-key") != KEY:
            return web.json_response({"detail": "Not authenticated"}, status=403)
        name = request.query["id"]
        job = self.jobs.get(name)
        if job is None:
            return web.json_response({"id": name, "status": "Task not found", "result": None})
        job.polls += 1
        answer: dict[str, Any] = {"id": name, "status": "Pending", "result": None}
        if job.polls <= len(PENDING):
            answer |= PENDING[job.polls - 1]
        else:
            sample = f"{self.storage}/{name}?signature=abc"
            answer |= {"status": "Ready", "result": {"sample": sample, "seed": job.body["seed"]}}
        return web.json_response(answer)

    @scripted("downloads")
    async def sample(self, request: web.Request) -> web.StreamResponse:
        """GET of an image."""
        job = self.jobs[request.match_info["name"]]
        return web.Response(
            body=drawn(job.body), content_type=f"image/{job.body.get('output_format', 'jpeg')}"
        )

    async def credits(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/credits."""
        if request.headers.get("x-key") != KEY:
            return web.json_response({"detail": f"bad key {request.headers['x-key']}"}, status=403)
        return web.json_response({"credits": 41.5})


def drawn(body: Mapping[str, Any]) -> bytes:
    """An image that depends on the whole request."""
    if "image" in body:
        size = _opened(body["image"]).size
    elif "aspect_ratio" in body:
        size = _SIZES[body["aspect_ratio"]]
    else:
        size = body["width"], body["height"]
    colour = zlib.crc32(repr(sorted(body.items())).encode()) & 0xFFFFFF
    file = io.BytesIO()
    Image.new("RGB", size, f"#{colour:06x}").save(file, body.get("output_format", "jpeg"))
    return file.getvalue()


def _wrong(model: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Validation errors of the service, in its own shape."""
    for name in body.keys() - FIELDS[model]:
        yield {"loc": ["body", name], "msg": f"unknown field {name}", "type": "extra"}
    grid, least = (32, 256) if model == "flux-pro-1.1" else (16, 64)
    for name in ("width", "height"):
        if name in body and (body[name] % grid or body[name] < least):
            yield {"loc": ["body", name], "msg": f"{name} off the grid", "type": "value"}
    if not 0 <= body["seed"] < 2**31:
        yield {"loc": ["body", "seed"], "msg": "seed out of range", "type": "value"}
    if "aspect_ratio" in FIELDS[model] and ":" not in body.get("aspect_ratio", ":"):
        yield {"loc": ["body", "aspect_ratio"], "msg": "no ratio", "type": "value"}
    if "mask" in body:
        mask, image = _opened(body["mask"]), _opened(body["image"])
        if mask.size != image.size or mask.mode != "L":
            yield {"loc": ["body", "mask"], "msg": "mask does not fit", "type": "value"}
    for name in ("input_image", "image_prompt"):
        if name in body:
            _opened(body[name])


def _opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)))


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """The service, running."""
    made = StandIn()
    api, region, storage = (
        web.Application(client_max_size=2**25),
        web.Application(),
        web.Application(),
    )
    api.router.add_get("/v1/credits", made.credits)
    for app in (api, region):
        app.router.add_get("/v1/get_result", made.poll)
    api.router.add_post("/v1/{model}", made.submit)
    storage.router.add_get("/{name}", made.sample)
    with serve(api, region, storage) as (made.api, made.region, made.storage):
        yield made
