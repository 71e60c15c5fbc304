"""A fake InvokeAI server: queue, images and boards over HTTP, and events over Socket.IO."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import socketio
from aiohttp import web

from atelier_engines.conformance.fake_server import Handler, respond, serve
from atelier_engines.conformance.remote_service import FakeService
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from atelier_engines.vendors.invokeai.config import InvokeAiConfig
from atelier_engines.vendors.invokeai.engine import InvokeAiEngine
from tests.vendors.invokeai.nodes import find_problems
from tests.vendors.invokeai.queue import ROOM, Queue

EMAIL, PASSWORD = "artist@example.org", "password-of-the-tests"
SUB_PATH = "/invoke"
TASK = ImageTask(
    prompt="a lighthouse",
    width=64,
    height=80,
    seeds=(7,),
    steps=4,
    guidance=6.0,
    scheduler="euler",
)
MODELS = {
    key: {
        "key": key,
        "hash": f"blake3:{key}",
        "name": name,
        "base": base,
        "type": kind,
        "path": "x",
    }
    for key, name, base, kind in (
        ("k0", "Old One", "sd-1", "main"),
        ("k1", "Juggernaut XL", "sdxl", "main"),
        ("k2", "SDXL Base", "sdxl", "main"),
        ("k3", "ink", "sdxl", "lora"),
        ("k4", "ruins", "sdxl", "lora"),
        ("k5", "old ink", "sd-1", "lora"),
        ("k6", "canny-xl", "sdxl", "controlnet"),
        ("k7", "depth-xl", "sdxl", "controlnet"),
    )
}


PRESETS = [
    {
        "name": name,
        "preset_data": {"positive_prompt": positive, "negative_prompt": negative},
        "type": "default",
        "is_public": True,
        "id": name.lower(),
        "user_id": "system",
        "image": None,
    }
    for name, positive, negative in (
        ("Anime", "{prompt} anime++, line art", "painting"),
        ("Sketch", "pencil on paper", "{prompt}, colour"),
    )
]


@dataclass(slots=True, kw_only=True)
class StandIn(FakeService):
    """One server, with its queue."""

    socket: socketio.AsyncServer
    queue: Queue
    api: str = ""
    users: bool = False
    """Whether requests need a sign-in."""
    tokens: set[str] = field(default_factory=set)
    """Valid tokens."""
    sign_ins: int = 0
    """Number of sign-ins."""
    batches: list[dict[str, Any]] = field(default_factory=list)
    """Batches that were enqueued."""
    uploads: dict[str, bytes] = field(default_factory=dict)
    """All uploads, even those deleted since."""
    models: dict[str, Any] = field(default_factory=lambda: dict(MODELS))
    boards: dict[str, str] = field(default_factory=dict)
    """Ids of boards by name."""
    room: int = 10000
    """Room in the queue."""
    refuses_sockets: bool = False
    """Whether Socket.IO connections are refused."""
    poll_count: int = 0
    """Number of polls of items."""
    cancelled_batches: list[str] = field(default_factory=list)
    """Batches whose cancellation was requested."""
    running: Handler | None = field(default_factory=lambda: respond(200, {"status": "in_progress"}))
    unknown_status: Handler | None = field(
        default_factory=lambda: respond(200, {"status": "pondering"})
    )

    task: ClassVar[ImageTask] = TASK
    downloadable: ClassVar[bool] = False
    batched: ClassVar[bool] = True

    def engine(self, **settings: object) -> Engine:
        """See FakeService.engine."""
        config = {"base_url": self.api, "poll_seconds": 0.02, **settings}
        return InvokeAiEngine(InvokeAiConfig.model_validate(config), delay_scale=0.01)

    @property
    def accepted(self) -> int:
        """See FakeService.accepted."""
        return sum(len(batch["data"][0][0]["items"]) for batch in self.batches)

    @property
    def cancelled(self) -> int:
        """See FakeService.cancelled."""
        return len(self.cancelled_batches)

    @property
    def polled(self) -> int:
        """See FakeService.polled."""
        return self.poll_count

    def forget_jobs(self) -> None:
        """See FakeService.forget_jobs."""
        self.queue.items.clear()
        self.batches.clear()

    def reset(self) -> None:
        """See FakeService.reset."""
        FakeService.reset(self)
        self.queue.reset()
        for records in (
            self.tokens,
            self.batches,
            self.uploads,
            self.boards,
            self.cancelled_batches,
        ):
            records.clear()
        self.users = self.refuses_sockets = False
        self.sign_ins, self.room, self.models = 0, 10000, dict(MODELS)
        self.poll_count = 0

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        """POST /api/v1/auth/login."""
        body = await request.json()
        if (body["email"], body["password"]) != (EMAIL, PASSWORD):
            return web.json_response({"detail": "Incorrect email or password"}, status=401)
        self.sign_ins += 1
        token = f"token-{self.sign_ins}"
        self.tokens.add(token)
        return web.json_response({"token": token, "user": {}, "expires_in": 86400})

    async def list_models(self, _: web.Request) -> web.StreamResponse:
        """GET /api/v2/models/."""
        return web.json_response({"models": list(self.models.values())})

    async def list_style_presets(self, _: web.Request) -> web.StreamResponse:
        """GET /api/v1/style_presets/."""
        return web.json_response(PRESETS)

    async def enqueue(self, request: web.Request) -> web.StreamResponse:
        """POST …/enqueue_batch."""
        scripted = self.submits.next_handler()
        if scripted is not None:
            return await scripted(request)
        batch = (await request.json())["batch"]
        bad = list(
            find_problems(
                batch["graph"], models=self.models, images=self.queue.images, boards=self.boards
            )
        )
        ((datum,),) = batch["data"]
        assert (datum["node_path"], datum["field_name"]) == ("noise", "seed")
        bad += [f"seed {seed}" for seed in datum["items"] if not 0 <= seed < 2**32]
        if bad:
            detail = [{"loc": ["body"], "msg": text, "type": "value_error"} for text in bad]
            return web.json_response({"detail": detail}, status=422)
        assert batch["destination"] == batch["batch_id"], "its items could not be found again"
        self.batches.append(batch)
        taken = datum["items"][: self.room]
        ids = [self.queue.add(batch["batch_id"], batch["graph"], seed) for seed in taken]
        about = {"batch_id": batch["batch_id"], "enqueued": len(ids), "priority": 0}
        answer = {**about, "requested": len(datum["items"]), "item_ids": ids[::-1], "batch": batch}
        await self.queue.send("batch_enqueued", about)
        if self.answer_seconds:
            await asyncio.sleep(self.answer_seconds)
        return web.json_response(answer)

    async def item(self, request: web.Request) -> web.StreamResponse:
        """GET …/i/{item_id}."""
        self.poll_count += 1
        found = self.queue.items.get(int(request.match_info["id"]))
        if found is not None:
            found.polled = True
        scripted = self.polls.next_handler()
        if scripted is not None:
            return await scripted(request)
        if found is None:
            return web.json_response({"detail": "Queue item not found"}, status=404)
        return web.json_response(found.wire())

    async def list_all(self, request: web.Request) -> web.StreamResponse:
        """GET …/list_all?destination=."""
        wanted = request.query["destination"]
        items = [item for item in self.queue.items.values() if item.batch_id == wanted]
        return web.json_response([item.wire() for item in items])

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """PUT …/cancel_by_batch_ids."""
        batch_ids = (await request.json())["batch_ids"]
        self.cancelled_batches += batch_ids
        scripted = self.cancels.next_handler()
        if scripted is not None:
            return await scripted(request)
        return web.json_response({"canceled": await self.queue.cancel(batch_ids)})

    async def status(self, _: web.Request) -> web.StreamResponse:
        """GET …/status."""
        processor = {"is_started": not self.queue.paused, "is_processing": False}
        return web.json_response({"queue": {"queue_id": ROOM}, "processor": processor})

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """POST /api/v1/images/upload."""
        assert request.query["is_intermediate"] == "true"
        part = (await request.post())["file"]
        if not isinstance(part, web.FileField) or part.content_type != "image/png":
            return web.json_response({"detail": "Not an image"}, status=415)
        name = f"upload-{len(self.uploads)}.png"
        self.uploads[name] = self.queue.images[name] = part.file.read()
        return web.json_response({"image_name": name, "width": 1, "height": 1}, status=201)

    async def file(self, request: web.Request) -> web.StreamResponse:
        """GET /api/v1/images/i/{name}/full."""
        scripted = self.downloads.next_handler()
        if scripted is not None:
            return await scripted(request)
        data = self.queue.images.get(request.match_info["name"])
        if data is None:
            return web.json_response({"detail": "Not Found"}, status=404)
        return web.Response(body=data, content_type="image/png")

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """DELETE /api/v1/images/i/{name}."""
        self.queue.images.pop(request.match_info["name"], None)
        return web.json_response({"affected_boards": [], "deleted_images": []})

    async def list_boards(self, _: web.Request) -> web.StreamResponse:
        """GET /api/v1/boards/?all=true."""
        boards = [{"board_id": key, "board_name": name} for name, key in self.boards.items()]
        return web.json_response(boards)

    async def make_board(self, request: web.Request) -> web.StreamResponse:
        """POST /api/v1/boards/."""
        name = request.query["board_name"]
        self.boards[name] = f"board-{len(self.boards)}"
        return web.json_response({"board_id": self.boards[name], "board_name": name}, status=201)

    def welcome(self, auth: object) -> bool:
        """Whether a socket may connect."""
        if self.refuses_sockets:
            return False
        return not self.users or (isinstance(auth, dict) and auth.get("token") in self.tokens)

    @web.middleware
    async def guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Refuse requests without a sign-in, if the server has users."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        free = "/ws/" in request.path or request.path.endswith("/login")
        if self.users and not free and token not in self.tokens:
            return web.json_response({"detail": "Invalid or expired token"}, status=401)
        return await handler(request)

    def application(self) -> web.Application:
        """The server, at the root and under a sub-path."""
        app = web.Application(client_max_size=2**26, middlewares=[self.guard])
        queue = f"/api/v1/queue/{ROOM}"
        for path in ("", SUB_PATH):
            app.router.add_post(f"{path}/api/v1/auth/login", self.sign_in)
            app.router.add_get(f"{path}/api/v2/models/", self.list_models)
            app.router.add_get(f"{path}/api/v1/style_presets/", self.list_style_presets)
            app.router.add_post(f"{path}{queue}/enqueue_batch", self.enqueue)
            app.router.add_get(f"{path}{queue}/status", self.status)
            app.router.add_get(f"{path}{queue}/list_all", self.list_all)
            app.router.add_put(f"{path}{queue}/cancel_by_batch_ids", self.cancel)
            app.router.add_get(f"{path}{queue}/i/{{id}}", self.item)
            app.router.add_post(f"{path}/api/v1/images/upload", self.upload)
            app.router.add_get(f"{path}/api/v1/images/i/{{name}}/full", self.file)
            app.router.add_delete(f"{path}/api/v1/images/i/{{name}}", self.delete)
            app.router.add_get(f"{path}/api/v1/boards/", self.list_boards)
            app.router.add_post(f"{path}/api/v1/boards/", self.make_board)
            self.socket.attach(app, socketio_path=f"{path}/ws/socket.io")
        return app


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """Start the fake server."""
    socket = socketio.AsyncServer(async_mode="aiohttp", monitor_clients=False)
    service = StandIn(socket=socket, queue=Queue(socket))

    async def connect(_sid: str, _environ: object, auth: object) -> bool:
        return service.welcome(auth)

    async def subscribe(sid: str, data: dict[str, str]) -> None:
        await socket.enter_room(sid, data["queue_id"])

    socket.on("connect", connect)
    socket.on("subscribe_queue", subscribe)
    app = service.application()
    app.on_cleanup.append(_end_pings)
    with serve(app) as (service.api,):
        yield service


async def _end_pings(_: web.Application) -> None:
    """Cancel the pings of the sockets, which would outlive the loop."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
