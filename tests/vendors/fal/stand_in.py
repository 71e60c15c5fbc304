"""A fake of fal: a queue, an API for upload tokens, and a file storage, each on its own host."""

from __future__ import annotations

import base64
import io
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, get_args

from aiohttp import web
from fal_client._headers import Priority
from PIL import Image

from atelier_engines.conformance.fake_server import Handler, ResponseQueue, respond, serve
from atelier_engines.conformance.remote_service import FakeJob, FakeJobService, scripted
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from atelier_engines.vendors.fal.config import FalConfig
from atelier_engines.vendors.fal.engine import FalEngine
from tests.vendors.comfy_workflows import checking

KEY = "11111111-2222-3333-4444-555555555555:0123456789abcdef"
APP = "me/comfy/generate"
TASK = ImageTask(prompt="a lighthouse", width=256, height=264, seeds=(7,), steps=4)
COMFY: dict[str, Any] = {
    "endpoint": APP,
    "loras": {"medieval": "medieval_v2.safetensors", "cinematic": "cine.safetensors"},
    "controlnets": {"depth": "depth_sdxl.safetensors"},
}
NSFW = "nsfw"
"""A prompt with this word gets a flagged image."""
STATES: tuple[dict[str, Any], ...] = (
    {"status": "IN_QUEUE", "queue_position": 2},
    {"status": "IN_QUEUE", "queue_position": 0},
    {"status": "IN_PROGRESS", "logs": None},
    {"status": "IN_PROGRESS", "logs": 1},
    {"status": "IN_PROGRESS", "logs": 3},
    {"status": "COMPLETED", "logs": 3, "metrics": {"inference_time": 0.5}},
)
"""Regular poll responses, one after the other; `logs` is the number of steps in the log."""
_COMMON = {"prompt", "image_size", "num_inference_steps", "seed", "num_images", "embeddings"} | {
    "enable_safety_checker",
    "safety_checker_version",
    "expand_prompt",
    "format",
    "sync_mode",
    "request_id",
}
_FULL = _COMMON - {"expand_prompt"} | {"negative_prompt", "guidance_scale", "loras"}
FIELDS: Mapping[str, set[str]] = {
    "fal-ai/fast-lightning-sdxl": _COMMON,
    "fal-ai/fast-lightning-sdxl/image-to-image": _COMMON
    | {"image_url", "strength", "preserve_aspect_ratio", "crop_output"},
    "fal-ai/fast-lightning-sdxl/inpainting": _COMMON | {"image_url", "mask_url", "strength"},
    "fal-ai/fast-sdxl": _FULL,
    "fal-ai/fast-sdxl/image-to-image": _FULL | {"image_url", "strength"},
    "fal-ai/fast-sdxl/inpainting": _FULL | {"image_url", "mask_url", "strength"},
    "me/lightning": _COMMON,
    APP: {"workflow", "images"},
}


@dataclass(slots=True, kw_only=True)
class Job(FakeJob):
    """A job of one model or app."""

    endpoint: str
    headers: Mapping[str, str]


def state(status: str, code: int = 202, **fields: object) -> Handler:
    """A poll response."""
    return respond(code, {"status": status, **fields})


@dataclass(slots=True, kw_only=True)
class StandIn(FakeJobService[Job]):
    """The queue, the API that issues upload tokens, and the storage."""

    queue: str = ""
    rest: str = ""
    media: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """Uploaded files by name."""
    lifecycles: list[str | None] = field(default_factory=list)
    """How long each upload is to be kept."""
    shape: str = "images"
    """Shape of results: images, image, outputs, or inline for a data URI."""
    results: ResponseQueue = field(default_factory=ResponseQueue)
    """Responses to requests for the result of a job."""
    running: Handler | None = field(default_factory=lambda: state("IN_PROGRESS"))
    unknown_status: Handler | None = field(default_factory=lambda: state("THINKING"))
    unknown_job: Handler = field(default_factory=lambda: respond(404, {"status": "NOT_FOUND"}))

    task: ClassVar[ImageTask] = TASK
    api_key: ClassVar[str] = KEY
    rejected_key_message: ClassVar[str] = "Invalid key"

    def engine(self, **settings: object) -> Engine:
        """See FakeService.engine."""
        urls = {"base_url": self.queue, "rest_url": self.rest, "storage_url": self.media}
        config = {"api_key": KEY, "poll_seconds": 0.001, **urls, **settings}
        return FalEngine(FalConfig.model_validate(config), delay_scale=0.001)

    def flag_next(self) -> ImageTask | None:
        """See FakeService.flag_next."""
        return replace(TASK, prompt=NSFW)

    def reset(self) -> None:
        """See FakeService.reset."""
        FakeJobService.reset(self)
        self.files.clear()
        self.lifecycles.clear()
        self.shape = "images"

    @scripted("submits")
    async def submit(self, request: web.Request) -> web.StreamResponse:
        """POST /{owner}/{app}[/{subpath}]."""
        if (refused := _unknown(request)) is not None:
            return refused
        endpoint, body = request.path[1:], await request.json()
        if endpoint not in FIELDS:
            return web.json_response({"detail": f"Application {endpoint} not found"}, status=404)
        job_id = str(uuid.uuid4())
        headers = {name.lower(): value for name, value in request.headers.items()}
        if headers.get("x-fal-queue-priority", "normal") not in get_args(Priority):
            return web.json_response({"detail": "unknown priority"}, status=400)
        self.jobs[job_id] = Job(endpoint=endpoint, body=body, headers=headers)
        return web.json_response(self._place(job_id) | {"status": "IN_QUEUE", "queue_position": 2})

    @scripted("polls")
    async def status(self, request: web.Request) -> web.StreamResponse:
        """GET of a job's status."""
        if (refused := _unknown(request)) is not None:
            return refused
        job_id = request.match_info["id"]
        job = self.jobs.get(job_id)
        if job is None:
            return web.json_response({"status": "NOT_FOUND"}, status=404)
        state = dict(STATES[min(job.polls, len(STATES) - 1)])
        job.polls += 1
        if job.cancelled:
            state = {"status": "COMPLETED", "logs": None, "error_type": "client_cancelled"}
        if isinstance(state.get("logs"), int):
            wanted = request.query.get("logs") in {"1", "true"}
            state["logs"] = _log(job.body, state["logs"]) if wanted else None
        status = 200 if state["status"] == "COMPLETED" else 202
        return web.json_response(state | self._place(job_id), status=status)

    @scripted("results")
    async def result(self, request: web.Request) -> web.StreamResponse:
        """GET of a job's result."""
        if (refused := _unknown(request)) is not None:
            return refused
        return self._result(request.match_info["id"])

    def _result(self, job_id: str) -> web.StreamResponse:
        job = self.jobs.get(job_id)
        if job is None:
            return web.json_response({"detail": "Request not found"}, status=404)
        if job.cancelled:
            return web.json_response({"detail": "cancelled by the client"}, status=499)
        if job.polls < len(STATES):
            return web.json_response({"detail": "Request is still in progress"}, status=400)
        wrong = list(self._wrong(job))
        if wrong:
            return web.json_response({"detail": wrong}, status=422)
        return web.json_response(self._made(job_id, job))

    @scripted("cancels")
    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """PUT of a job's cancel address."""
        if (refused := _unknown(request)) is not None:
            return refused
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return web.json_response({"status": "NOT_FOUND"}, status=404)
        if job.polls >= len(STATES):
            return web.json_response({"status": "ALREADY_COMPLETED"}, status=400)
        job.cancelled = True
        return web.json_response({"status": "CANCELLATION_REQUESTED"}, status=202)

    async def leave(self, request: web.Request) -> web.StreamResponse:
        """POST /storage/auth/token."""
        if (refused := _unknown(request)) is not None:
            return refused
        assert request.query["storage_type"] == "fal-cdn-v3"
        answer = {"token": "leave", "token_type": "Bearer", "base_url": self.media}
        return web.json_response(answer | {"expires_at": "2999-01-01T00:00:00Z"})

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """POST /files/upload."""
        self.leaks += KEY in str(request.headers)
        if request.headers.get("authorization") != "Bearer leave":
            return web.json_response({"detail": "no leave"}, status=401)
        name = f"{len(self.files)}_{request.headers.get('x-fal-file-name', 'file')}"
        self.lifecycles.append(request.headers.get("x-fal-object-lifecycle"))
        self.files[name] = await request.read()
        return web.json_response({"access_url": f"{self.media}/files/{name}"})

    @scripted("downloads")
    async def download(self, request: web.Request) -> web.StreamResponse:
        """GET of a generated image."""
        data = self.drawn(self.jobs[request.match_info["id"]])
        return web.Response(body=data, content_type=Image.MIME[_format(data)])

    def drawn(self, job: Job) -> bytes:
        """An image that depends on the whole request; black when flagged."""
        if "workflow" in job.body:
            return checking.generate(job.body["workflow"], self._sent(job))
        size = job.body["image_size"]
        said = [item for item in sorted(job.body.items()) if not item[0].endswith("_url")]
        colour = 0 if _flagged(job) else zlib.crc32(repr(said).encode()) & 0xFFFFFF
        file = io.BytesIO()
        image = Image.new("RGB", (size["width"], size["height"]), f"#{colour:06x}")
        image.save(file, job.body.get("format", "jpeg"))
        return file.getvalue()

    def _place(self, job_id: str) -> dict[str, Any]:
        owner_and_app = "/".join(self.jobs[job_id].endpoint.split("/")[:2])  # the rest is dropped
        base = f"{self.queue}/{owner_and_app}/requests/{job_id}"
        return {
            "request_id": job_id,
            "response_url": base,
            "status_url": f"{base}/status",
            "cancel_url": f"{base}/cancel",
        }

    def _made(self, job_id: str, job: Job) -> dict[str, Any]:
        url = f"{self.media}/made/{job_id}"
        if self.shape == "inline":
            data = self.drawn(job)
            url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
        image = {"url": url, "content_type": "image/png"}
        shapes: dict[str, dict[str, Any]] = {
            "image": {"image": image},
            "outputs": {"outputs": {"9": {"images": [image | {"filename": "a.png"}]}}},
        }
        flags = {"has_nsfw_concepts": [_flagged(job)], "seed": job.body.get("seed")}
        return shapes.get(self.shape, {"images": [image], **flags})

    def _wrong(self, job: Job) -> Iterator[dict[str, Any]]:
        """Validation errors of the model, in its own shape."""
        for name in job.body.keys() - FIELDS[job.endpoint]:
            yield {"loc": ["body", name], "msg": f"unknown field {name}", "type": "extra"}
        if "workflow" in job.body:
            for fault in checking.find_problems(job.body["workflow"], self._sent(job)):
                yield {"loc": ["body", "workflow"], "msg": fault, "type": "value_error"}
            return
        steps = job.body["num_inference_steps"]
        if "lightning" in job.endpoint and steps not in {"1", "2", "4", "8"}:
            yield {"loc": ["body", "num_inference_steps"], "msg": f"{steps!r}?", "type": "one_of"}
        size = job.body["image_size"]
        for name in ("image_url", "mask_url"):
            if name not in FIELDS[job.endpoint]:
                continue
            if self._opened(job.body[name]).size != (size["width"], size["height"]):
                yield {"loc": ["body", name], "msg": "another size", "type": "value_error"}

    def _sent(self, job: Job) -> dict[str, bytes]:
        return {image["name"]: self._read(image["url"]) for image in job.body["images"]}

    def _opened(self, url: str) -> Image.Image:
        return Image.open(io.BytesIO(self._read(url)))

    def _read(self, url: str) -> bytes:
        if url.startswith("data:image/png;base64,"):
            return base64.b64decode(url.partition(",")[2], validate=True)
        return self.files[url.removeprefix(f"{self.media}/files/")]


def _unknown(request: web.Request) -> web.StreamResponse | None:
    key = request.headers.get("authorization", "")
    if key == f"Key {KEY}":
        return None
    return web.json_response({"detail": f"Invalid key {key}"}, status=401)


def _flagged(job: Job) -> bool:
    return NSFW in job.body.get("prompt", "") and job.body.get("enable_safety_checker", True)


def _log(body: Mapping[str, Any], done: int) -> list[dict[str, Any]]:
    """Log lines as diffusers writes them; the first counts components, not steps."""
    total = int(body.get("num_inference_steps", 4))
    lines = ["Loading pipeline components...: 71%|███████   | 5/7 [00:00<00:00]"]
    lines += [
        f" {100 * n // total}%|##   | {n}/{total} [00:00<00:01,  5.00it/s]" for n in range(done)
    ]
    return [
        {"message": line, "level": "STDERR", "source": "USER", "timestamp": "2026-01-01T00:00:00Z"}
        for line in lines
    ]


def _format(data: bytes) -> str:
    return Image.open(io.BytesIO(data)).format or ""


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """The service, running."""
    made = StandIn()
    queue, rest, media = (web.Application(client_max_size=2**26) for _ in range(3))
    queue.router.add_get("/{owner}/{app}/requests/{id}/status", made.status)
    queue.router.add_get("/{owner}/{app}/requests/{id}", made.result)
    queue.router.add_put("/{owner}/{app}/requests/{id}/cancel", made.cancel)
    queue.router.add_post("/{endpoint:.+}", made.submit)
    rest.router.add_post("/storage/auth/token", made.leave)
    media.router.add_post("/files/upload", made.upload)
    media.router.add_get("/made/{id}", made.download)
    with serve(queue, rest, media) as (made.queue, made.rest, made.media):
        yield made
