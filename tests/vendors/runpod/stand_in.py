"""A fake of RunPod, with worker-comfyui and a storage for its images."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiohttp import web

from atelier_engines.conformance.fake_server import Handler, ResponseQueue, respond, serve
from atelier_engines.conformance.remote_service import FakeJob, FakeJobService, scripted
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from atelier_engines.vendors.runpod.config import RunpodConfig
from atelier_engines.vendors.runpod.engine import RunpodEngine
from tests.vendors.comfy_workflows import checking

KEY = "rpa_0123456789ABCDEF"
ENDPOINT = "abc123xyz"
FURTHER_ENDPOINT = "def456uvw"
TASK = ImageTask(prompt="a mill", width=128, height=136, seeds=(7,), steps=25, guidance=6.0)
FILES: dict[str, Any] = {
    "loras": {"medieval": "medieval_v2.safetensors", "cinematic": "cine.safetensors"},
    "controlnets": {"depth": "depth_sdxl.safetensors"},
}
STATES = ("IN_QUEUE", "IN_QUEUE", "IN_PROGRESS", "IN_PROGRESS", "COMPLETED")
"""Regular poll responses, one after the other."""
_MOST_BYTES = 10 * 10**6
_POLICY = {"executionTimeout": (5_000, 604_800_000), "ttl": (10_000, 604_800_000)}


def state(status: str, **fields: object) -> Handler:
    """A poll response."""
    return respond(200, {"id": "x", "status": status, **fields})


@dataclass(slots=True, kw_only=True)
class StandIn(FakeJobService[FakeJob]):
    """The API with two endpoints, and the storage for its images."""

    api: str = ""
    store: str = ""
    workers: dict[str, int] = field(default_factory=dict)
    """Workers in the response of /health."""
    shape: str = "v5"
    """Shape of results: v5, s3, message, message_url progress, which is v5 with
    progress, slow, which outlasts /runsync, or those of other workers in `_ended`."""
    endpoints: dict[str, str] = field(default_factory=dict)
    """The endpoint of each job, which no other endpoint knows."""
    healths: ResponseQueue = field(default_factory=ResponseQueue)
    """Responses to requests for the state of the workers."""
    running: Handler | None = field(default_factory=lambda: state("IN_PROGRESS"))
    unknown_status: Handler | None = field(default_factory=lambda: state("PONDERING"))

    task: ClassVar[ImageTask] = TASK
    api_key: ClassVar[str] = KEY
    rejected_key_message: ClassVar[str] = "is no key"

    def engine(self, **settings: object) -> Engine:
        """See FakeService.engine."""
        account = {"api_key": KEY, "endpoint": ENDPOINT, "base_url": self.api}
        config = {**account, "poll_seconds": 0.001, **settings}
        return RunpodEngine(RunpodConfig.model_validate(config), delay_scale=0.001)

    def reset(self) -> None:
        """See FakeService.reset."""
        FakeJobService.reset(self)
        self.endpoints = {}
        self.workers = {"idle": 0, "running": 1}
        self.shape = "v5"
        self.endpoints.clear()

    @scripted("submits")
    async def run(self, request: web.Request) -> web.StreamResponse:
        """POST /run."""
        if (refused := _unknown(request)) is not None:
            return refused
        raw = await request.read()
        if len(raw) > _MOST_BYTES:
            return web.json_response({"error": "body too large"}, status=400)
        body = await request.json()
        wrong = [
            name
            for name, (least, most) in _POLICY.items()
            if not least <= body.get("policy", {}).get(name, least) <= most
        ]
        if wrong or "input" not in body:
            return web.json_response({"error": f"bad request: {wrong or 'input'}"}, status=400)
        job_id = f"{len(self.jobs)}f0e-4a2b-u1"
        self.jobs[job_id] = FakeJob(body=body)
        self.endpoints[job_id] = request.match_info["endpoint"]
        return web.json_response({"id": job_id, "status": "IN_QUEUE"})

    @scripted("submits")
    async def runsync(self, request: web.Request) -> web.StreamResponse:
        """POST /runsync?wait=ms: the end of the job if it comes within that time; then it is not kept."""
        wait = int(request.query.get("wait", 90_000))
        if not 1_000 <= wait <= 300_000:
            return web.json_response({"error": f"bad wait: {wait}"}, status=400)
        if (refused := _unknown(request)) is not None:
            return refused
        job_id = f"sync-{len(self.jobs)}f0e-u1"
        job = self.jobs[job_id] = FakeJob(body=await request.json())
        self.endpoints[job_id] = request.match_info["endpoint"]
        if self.shape == "slow":
            return web.json_response({"id": job_id, "status": "IN_PROGRESS"})
        return web.json_response({"id": job_id, "delayTime": 12, **self._ended(job_id, job)})

    @scripted("polls")
    async def status(self, request: web.Request) -> web.StreamResponse:
        """GET /status/{id}."""
        if (refused := _unknown(request)) is not None:
            return refused
        job_id = request.match_info["id"]
        job = self.jobs.get(job_id)
        if job is None or self.endpoints[job_id] != request.match_info["endpoint"]:
            return web.json_response({"error": "job not found"}, status=404)
        return web.json_response({"id": job_id, "delayTime": 12, **self._state(job_id, job)})

    def _state(self, job_id: str, job: FakeJob) -> dict[str, Any]:
        if job.cancelled:
            return {"status": "CANCELLED"}
        status = STATES[min(job.polls, len(STATES) - 1)]
        job.polls += 1
        if status == "COMPLETED":
            return self._ended(job_id, job)
        if status == "IN_PROGRESS" and self.shape == "progress":
            return {"status": status, "output": {"step": job.polls * 5, "total": 25}}
        return {"status": status}

    def _ended(self, job_id: str, job: FakeJob) -> dict[str, Any]:
        given = job.body["input"]
        if "workflow" not in given:
            return {"status": "FAILED", "error": "Missing 'workflow' parameter"}
        faults = list(checking.find_problems(given["workflow"], _sent(given)))
        if faults:
            error = "Workflow validation failed:\n" + "\n".join(f"• {fault}" for fault in faults)
            return {"status": "FAILED", "error": error}
        url, data = f"{self.store}/{job_id}.png?X-Amz-Signature=abc", self.drawn(job)
        text = base64.b64encode(data).decode()
        image = {"filename": "a.png", "type": "base64", "data": text}
        outputs: dict[str, object] = {
            "s3": {"images": [image | {"type": "s3_url", "data": url}]},
            "message": {"message": text, "status": "success", "refresh_worker": False},
            "message_url": {"message": url, "status": "success"},
            "texts": {"images": [text]},
            "text": text,
            "data_uri": {"image": f"data:image/png;base64,{text}"},
            "list": [{"image_url": url}],
            "job_results": {"job_results": {"images": [image], "seed": 7}},
            "job_results_list": {"job_results": [{"output": {"images": [{"url": url}]}}]},
        }
        if self.shape == "job_results_beside":
            return {"status": "COMPLETED", "job_results": {"images": [text]}}
        output: object = outputs.get(self.shape, {"images": [image]})
        return {"status": "COMPLETED", "executionTime": 2000, "output": output}

    @scripted("cancels")
    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """POST /cancel/{id}."""
        if (refused := _unknown(request)) is not None:
            return refused
        job_id = request.match_info["id"]
        if self.endpoints.get(job_id) != request.match_info["endpoint"]:
            return web.json_response({"error": "job not found"}, status=404)
        self.jobs[job_id].cancelled = True
        return web.json_response({"id": job_id, "status": "CANCELLED"})

    @scripted("healths")
    async def health(self, request: web.Request) -> web.StreamResponse:
        """GET /health."""
        if (refused := _unknown(request)) is not None:
            return refused
        jobs = {"completed": 1, "failed": 0, "inProgress": 0, "inQueue": 2, "retried": 0}
        return web.json_response({"jobs": jobs, "workers": self.workers})

    @scripted("downloads")
    async def download(self, request: web.Request) -> web.StreamResponse:
        """GET of an image in the storage."""
        job = self.jobs[request.match_info["name"].removesuffix(".png")]
        return web.Response(body=self.drawn(job), content_type="image/png")

    def drawn(self, job: FakeJob) -> bytes:
        """An image that depends on the whole request."""
        given = job.body["input"]
        return checking.generate(given["workflow"], _sent(given))


def _sent(given: dict[str, Any]) -> dict[str, bytes]:
    images = given.get("images", [])
    return {one["name"]: base64.b64decode(one["image"].rpartition(",")[2]) for one in images}


def _unknown(request: web.Request) -> web.StreamResponse | None:
    if request.headers.get("authorization") != f"Bearer {KEY}":
        told = request.headers.get("authorization", "nothing")
        return web.json_response({"error": f"{told} is no key"}, status=401)
    if request.match_info["endpoint"] not in {ENDPOINT, FURTHER_ENDPOINT}:
        return web.json_response({"error": "endpoint not found"}, status=404)
    return None


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """The service, running."""
    made = StandIn()
    api, store = web.Application(client_max_size=2**25), web.Application()
    api.router.add_post("/v2/{endpoint}/run", made.run)
    api.router.add_post("/v2/{endpoint}/runsync", made.runsync)
    api.router.add_get("/v2/{endpoint}/status/{id}", made.status)
    api.router.add_post("/v2/{endpoint}/cancel/{id}", made.cancel)
    api.router.add_get("/v2/{endpoint}/health", made.health)
    store.router.add_get("/{name}", made.download)
    with serve(api, store) as (root, made.store):
        made.api = f"{root}/v2"
        yield made
