"""A fake of Replicate: models, predictions and files on one host, the delivery of outputs on another."""

from __future__ import annotations

import base64
import io
import re
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from aiohttp import web
from jsonschema import Draft202012Validator
from PIL import Image

from atelier_engines.conformance.fake_server import Handler, respond, serve
from atelier_engines.conformance.remote_service import FakeJob, FakeJobService, scripted
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from atelier_engines.vendors.replicate.config import ReplicateConfig
from atelier_engines.vendors.replicate.engine import ReplicateEngine
from tests.vendors.replicate.models import MODELS, SDXL, FakeModel

KEY = "r8_0123456789abcdefABCDEF"
TASK = ImageTask(
    prompt="a lighthouse",
    width=128,
    height=136,
    seeds=(7,),
    steps=4,
    guidance=6.0,
    scheduler="K_EULER",
)
NSFW = "nsfw"
"""A prompt with this word fails as the models of Stability and Black Forest Labs do."""
NSFW_ERROR = "NSFW content detected. Try running it again, or try a different prompt."
STATES: tuple[tuple[str, int], ...] = (
    ("starting", 0),
    ("starting", 0),
    ("processing", 0),
    ("processing", 2),
    ("processing", 4),
    ("succeeded", 4),
)
"""Regular poll responses, one after the other: status, and the number of steps in the logs."""
_CREATED = datetime(2026, 4, 1, 12, tzinfo=UTC)
_PREFER = re.compile(r"wait(=([1-9]|[1-5]\d|60))?")
_LIFETIME = re.compile(r"(?=.)(\d+h)?(\d+m)?(\d+s?)?")
_MIN_LIFETIME = "5"


@dataclass(slots=True, kw_only=True)
class Job(FakeJob):
    """A prediction; `body` is its input."""

    model: str
    version: str
    headers: Mapping[str, str]


def prediction(status: str, **fields: object) -> Handler:
    """A response with a prediction."""
    return respond(200, {"id": "x", "status": status, **fields})


def problem(status: int, title: str, detail: str, **fields: object) -> web.Response:
    """An error response."""
    body = {"title": title, "detail": detail, "status": status, **fields}
    return web.json_response(body, status=status, content_type="application/problem+json")


@dataclass(slots=True, kw_only=True)
class StandIn(FakeJobService[Job]):
    """The API, and the host that delivers outputs."""

    api: str = ""
    media: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """Uploaded files by id."""
    finishes_in: str = ""
    """Status of a prediction that ends while the request for it is held; empty for none that does."""
    shape: str = "schema"
    """Shape of outputs: as the model's schema says, object, inline for a data URI, or several."""
    running: Handler | None = field(default_factory=lambda: prediction("processing"))
    unknown_status: Handler | None = field(default_factory=lambda: prediction("pondering"))
    unknown_job: Handler = field(
        default_factory=lambda: respond(404, {"detail": "Not found.", "status": 404})
    )

    task: ClassVar[ImageTask] = TASK
    api_key: ClassVar[str] = KEY
    rejected_key_message: ClassVar[str] = "You did not pass a valid authentication token"

    def engine(self, **settings: object) -> Engine:
        """See FakeService.engine."""
        account = {"api_key": KEY, "base_url": self.api, "model": SDXL}
        config = {**account, "poll_seconds": 0.001, **settings}
        return ReplicateEngine(ReplicateConfig.model_validate(config), delay_scale=0.001)

    def reject(self, status: int, message: str) -> Handler:
        """See FakeService.reject."""
        return respond(status, {"title": "No", "detail": message, "status": status})

    def flag_next(self) -> ImageTask | None:
        """See FakeService.flag_next."""
        return replace(TASK, prompt=NSFW)

    def reset(self) -> None:
        """See FakeService.reset."""
        FakeJobService.reset(self)
        self.files.clear()
        self.finishes_in, self.shape = "", "schema"

    async def account(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/account."""
        if (refused := _unknown(request)) is not None:
            return refused
        return web.json_response({"type": "organization", "username": "acme", "name": "Acme"})

    async def model(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/models/{owner}/{name}."""
        if (refused := _unknown(request)) is not None:
            return refused
        name = "{owner}/{name}".format(**request.match_info)
        if name not in MODELS:
            return problem(404, "", "The requested resource could not be found.")
        model, (owner, short) = MODELS[name], name.split("/")
        answer = {
            "url": f"https://replicate.com/{name}",
            "owner": owner,
            "name": short,
            "description": "",
            "visibility": "public",
            "is_official": model.official,
            "run_count": 1,
            "default_example": None,
            "latest_version": _version(model),
        }
        return web.json_response(answer)

    async def version(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/models/{owner}/{name}/versions/{version}."""
        if (refused := _unknown(request)) is not None:
            return refused
        model = MODELS.get("{owner}/{name}".format(**request.match_info))
        if model is None or model.version != request.match_info["version"]:
            return problem(404, "", "The requested resource could not be found.")
        return web.json_response(_version(model))

    @scripted("submits")
    async def create(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/predictions."""
        body = await request.json()
        version = body.get("version", "")
        found = [name for name, model in MODELS.items() if version in (model.version, name)]
        found = [name for name in found if MODELS[name].official or version != name]
        if not found:
            detail = "The specified version does not exist (or perhaps you don't have permission to use it?)"
            return problem(422, "Invalid version or not permitted", detail)
        return self._create(request, found[0], body)

    @scripted("submits")
    async def create_official(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/models/{owner}/{name}/predictions, for official models alone."""
        name = "{owner}/{name}".format(**request.match_info)
        if name not in MODELS or not MODELS[name].official:
            return problem(404, "", "The requested resource could not be found.")
        return self._create(request, name, await request.json())

    def _create(
        self, request: web.Request, name: str, body: Mapping[str, Any]
    ) -> web.StreamResponse:
        if (refused := _unknown(request)) is not None:
            return refused
        model = MODELS[name]
        wrong = list(_wrong(model, body["input"])) + list(_wrong_headers(request))
        if wrong:
            detail = "".join(f"- {one}\n" for one in wrong)
            return problem(422, "Input validation failed", detail, invalid_fields=[])
        job_id = uuid.uuid4().hex[:26]
        headers = {key.lower(): value for key, value in request.headers.items()}
        version = "hidden" if "version" not in body else model.version
        self.jobs[job_id] = Job(body=body["input"], model=name, version=version, headers=headers)
        if "prefer" in headers and self.finishes_in:
            self.jobs[job_id].polls = len(STATES) - 1
            told = self._describe(job_id) | {"status": self.finishes_in}
            return web.json_response(told, status=201)
        return web.json_response(self._describe(job_id), status=201)

    @scripted("polls")
    async def get(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/predictions/{id}."""
        if (refused := _unknown(request)) is not None:
            return refused
        job_id = request.match_info["id"]
        job = self.jobs.get(job_id)
        if job is None:
            return problem(404, "", "The requested resource could not be found.")
        told = self._describe(job_id)
        job.polls += 1
        return web.json_response(told)

    @scripted("cancels")
    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/predictions/{id}/cancel; what has ended stays as it is."""
        if (refused := _unknown(request)) is not None:
            return refused
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return problem(404, "", "The requested resource could not be found.")
        job.cancelled = job.cancelled or job.polls < len(STATES)
        return web.json_response(self._describe(request.match_info["id"]))

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/files, as a multipart form."""
        if (refused := _unknown(request)) is not None:
            return refused
        form = await request.post()
        content = form["content"]
        assert isinstance(content, web.FileField)
        file_id = f"{len(self.files)}file"
        self.files[file_id] = content.file.read()
        return web.json_response(
            {
                "id": file_id,
                "name": content.filename,
                "content_type": content.content_type,
                "size": len(self.files[file_id]),
                "etag": "e",
                "checksums": {"sha256": "", "md5": ""},
                "metadata": {},
                "created_at": _CREATED.isoformat(),
                "expires_at": (_CREATED + timedelta(days=1)).isoformat(),
                "urls": {"get": f"{self.api}/v1/files/{file_id}"},
            },
            status=201,
        )

    @scripted("downloads")
    async def download(self, request: web.Request) -> web.StreamResponse:
        """GET of an output, which needs no token."""
        job = self.jobs[request.match_info["id"]]
        data = self.drawn(job, int(request.match_info["number"]))
        return web.Response(body=data, content_type=_media_type(data))

    def drawn(self, job: Job, number: int = 0) -> bytes:
        """An image that depends on the whole input, and on its number."""
        said = [item for item in sorted(job.body.items()) if "http" not in str(item[1])]
        colour = zlib.crc32(repr((said, number)).encode()) & 0xFFFFFF
        made = io.BytesIO()
        kind = str(job.body.get("output_format", "png")).replace("jpg", "jpeg")
        Image.new("RGB", _size(job.body), f"#{colour:06x}").save(made, kind, lossless=True)
        return made.getvalue()

    def read_file(self, url: str) -> bytes:
        """The image that was sent, uploaded or inline."""
        if url.startswith("data:image/png;base64,"):
            return base64.b64decode(url.partition(",")[2], validate=True)
        return self.files[url.removeprefix(f"{self.api}/v1/files/")]

    def _describe(self, job_id: str) -> dict[str, Any]:
        """A prediction, as every response has it."""
        job = self.jobs[job_id]
        status, done = STATES[min(job.polls, len(STATES) - 1)]
        error = None
        if status == "succeeded" and _flagged(job):
            status, error = "failed", NSFW_ERROR
        times = {} if status == "starting" else {"started_at": _CREATED.isoformat()}
        if job.cancelled:
            status = "canceled"
        ended = status in {"succeeded", "failed", "canceled"}
        if ended:
            times["completed_at"] = (_CREATED + timedelta(seconds=2)).isoformat()
        url = f"{self.api}/v1/predictions/{job_id}"
        return {
            "id": job_id,
            "model": job.model,
            "version": job.version,
            "input": job.body,
            "logs": _log(job.body, done),
            "output": self._output(job_id) if status == "succeeded" else None,
            "data_removed": False,
            "error": error,
            "status": status,
            "created_at": _CREATED.isoformat(),
            **times,
            "metrics": {"predict_time": 1.5, "total_time": 2.0} if ended else {},
            "urls": {
                "get": url,
                "cancel": f"{url}/cancel",
                "web": f"https://replicate.com/p/{job_id}",
            },
        }

    def _output(self, job_id: str) -> object:
        job = self.jobs[job_id]
        file = f"{self.media}/xezq/{job_id}/out-{{}}.png"
        schema = MODELS[job.model].output
        if self.shape == "inline":
            data = self.drawn(job)
            return f"data:{_media_type(data)};base64,{base64.b64encode(data).decode()}"
        if self.shape == "object":
            return {"seed": 7, "image": file.format(0)}
        if "x-cog-array-type" in schema:
            return [file.format(number) for number in range(3)]
        return [file.format(0)] if schema.get("type") == "array" else file.format(0)


def _version(model: FakeModel) -> dict[str, Any]:
    return {
        "id": model.version,
        "created_at": _CREATED.isoformat(),
        "cog_version": "0.16.2",
        "openapi_schema": model.document,
    }


def _unknown(request: web.Request) -> web.StreamResponse | None:
    given = request.headers.get("authorization", "")
    if given == f"Bearer {KEY}":
        return None
    detail = f"You did not pass a valid authentication token ({given})"
    return problem(401, "Unauthenticated", detail)


def _wrong(model: FakeModel, given: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with an input. The real service ignores inputs that the model does not have; this refuses them."""
    document = {**model.document, "$ref": "#/components/schemas/Input"}
    for error in Draft202012Validator(document).iter_errors(dict(given)):
        yield ".".join(["input", *map(str, error.absolute_path)]) + f": {error.message}"
    for name in given.keys() - model.properties.keys():
        yield f"input.{name}: Additional property is not allowed"


def _wrong_headers(request: web.Request) -> Iterator[str]:
    prefer, lifetime = request.headers.get("prefer"), request.headers.get("cancel-after")
    if prefer is not None and not _PREFER.fullmatch(prefer):
        yield f"Prefer: {prefer}"
    if lifetime is None:
        return
    match = _LIFETIME.fullmatch(lifetime)
    if match is None or (match[1] is match[2] is None and int(lifetime.rstrip("s")) < 5):
        yield f"Cancel-After: {lifetime}"


def _flagged(job: Job) -> bool:
    return NSFW in job.body.get("prompt", "") and not job.body.get("disable_safety_checker")


def _size(given: Mapping[str, Any]) -> tuple[int, int]:
    ratio = given.get("aspect_ratio", "custom")
    if ":" not in ratio:
        return given.get("width", 128), given.get("height", 128)
    width, height = map(int, ratio.split(":"))
    return (
        (256, round(256 * height / width)) if width > height else (round(256 * width / height), 256)
    )


def _log(given: Mapping[str, Any], done: int) -> str:
    """Logs as diffusers writes them."""
    total = int(given.get("num_inference_steps", 4))
    lines = ["Using seed: 7", "Loading: 71%|███████   | 5/7 [00:00<00:00]"]
    lines += [
        f" {100 * n // total}%|██    | {n}/{total} [00:00<00:01,  7.96it/s]" for n in range(done)
    ]
    return "\n".join(lines) if done else ""


def _media_type(data: bytes) -> str:
    return Image.MIME[Image.open(io.BytesIO(data)).format or ""]


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """The service, running."""
    made = StandIn()
    api, media = (web.Application(client_max_size=2**26) for _ in range(2))
    api.router.add_get("/v1/account", made.account)
    api.router.add_get("/v1/models/{owner}/{name}", made.model)
    api.router.add_get("/v1/models/{owner}/{name}/versions/{version}", made.version)
    api.router.add_post("/v1/models/{owner}/{name}/predictions", made.create_official)
    api.router.add_post("/v1/predictions", made.create)
    api.router.add_get("/v1/predictions/{id}", made.get)
    api.router.add_post("/v1/predictions/{id}/cancel", made.cancel)
    api.router.add_post("/v1/files", made.upload)
    media.router.add_get("/xezq/{id}/out-{number}.png", made.download)
    with serve(api, media) as (made.api, made.media):
        yield made
