"""A ComfyUI server's side of the wire, with a queue, a worker and true PNG files."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import struct
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web
from PIL import Image

from tests.vendors.comfyui import nodes
from tests.vendors.http.serving import Line, serving

Json = Any
"""What JSON decodes to."""

OTHERS = "somebody-else"


@dataclass(slots=True)
class Behaviour:
    """How a server is to behave; honest and quick as it comes."""

    step_seconds: float = 0.002
    old: bool = False
    """As before prompts had ids of their own to interrupt, states of progress, and metadata."""
    without: tuple[str, ...] = ()
    """Classes of nodes that it lacks."""
    token: str = ""
    """What a proxy before it wants to see."""
    mute: bool = False
    """Tells nothing over sockets."""
    no_sockets: bool = False
    """Refuses them."""
    junk: bool = False
    """Sends broken and unknown frames between the good ones."""
    hang_up_at: int = 0
    """Closes all sockets at that step."""
    error: dict[str, Any] | None = None
    """Fails at the second step with that."""
    blocked: bool = False
    """Tells an error that is none, and goes on."""
    restart_at: int = 0
    """Forgets everything at that step."""
    intruder_at: int = 0
    """Somebody else interrupts at that step."""
    history_seconds: float = 0.0
    """Between telling success and writing it down."""
    cached: bool = False
    """Has made this before: nothing but the output runs."""
    others: int = 0
    """Jobs of others that come first."""
    held: bool = False
    """Begins no job."""
    lose_answer: bool = False
    """Accepts a prompt, and breaks the connection."""
    partly: bool = False
    """Accepts a prompt although an output was refused."""
    kind: str = "output"
    """Of the pictures: temp ones are no results."""
    prompts: Line = field(default_factory=Line)
    views: Line = field(default_factory=Line)
    histories: Line = field(default_factory=Line)
    uploads: Line = field(default_factory=Line)


@dataclass(slots=True)
class StandIn:
    """One server."""

    url: str = ""
    does: Behaviour = field(default_factory=Behaviour)
    submitted: list[dict[str, Any]] = field(default_factory=list)
    """Every prompt that was accepted."""
    pending: list[list[Any]] = field(default_factory=list)
    running: list[list[Any]] = field(default_factory=list)
    history: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    received: dict[str, bytes] = field(default_factory=dict)
    """Uploads by path."""
    interrupts: list[str | None] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    freed: int = 0
    sockets: dict[str, tuple[web.WebSocketResponse, bool]] = field(default_factory=dict)
    stopped: bool = False
    number: int = 0

    def reset(self) -> None:
        """Be new and honest."""
        for records in (self.submitted, self.pending, self.interrupts, self.deleted):
            records.clear()
        for shelf in (self.history, self.files, self.received):
            shelf.clear()
        self.stopped = bool(self.running)
        self.does = Behaviour()
        self.freed = 0

    def graph(self, index: int = -1) -> dict[str, Any]:
        """The graph of an accepted prompt."""
        graph: dict[str, Any] = self.submitted[index]["prompt"]
        return graph


@contextmanager
def stand_ins(count: int) -> Iterator[list[StandIn]]:
    """So many servers on free ports."""
    servers = [StandIn() for _ in range(count)]
    with serving(*map(_app, servers)) as urls:
        for server, url in zip(servers, urls, strict=True):
            server.url = url
        yield servers


def _app(server: StandIn) -> web.Application:
    app = web.Application(client_max_size=100 * 2**20, middlewares=[_guard(server)])
    routes = _Routes(server)
    for prefix in ("", "/api"):
        app.router.add_get(f"{prefix}/ws", routes.socket)
        app.router.add_get(f"{prefix}/prompt", routes.load)
        app.router.add_post(f"{prefix}/prompt", routes.prompt)
        app.router.add_get(f"{prefix}/queue", routes.queue)
        app.router.add_post(f"{prefix}/queue", routes.unqueue)
        app.router.add_post(f"{prefix}/interrupt", routes.interrupt)
        app.router.add_post(f"{prefix}/free", routes.free)
        app.router.add_get(f"{prefix}/history/{{id}}", routes.history)
        app.router.add_get(f"{prefix}/view", routes.view)
        app.router.add_post(f"{prefix}/upload/image", routes.upload)
        app.router.add_get(f"{prefix}/object_info", routes.object_info)
        app.router.add_get(f"{prefix}/system_stats", routes.system_stats)

    async def working(_: web.Application) -> Json:
        task = asyncio.create_task(_Worker(server).work())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    app.cleanup_ctx.append(working)
    return app


def _guard(server: StandIn) -> Json:
    @web.middleware
    async def guard(request: web.Request, handler: Json) -> web.StreamResponse:
        if "Origin" in request.headers or "Sec-Fetch-Site" in request.headers:
            return web.Response(status=403)
        if server.does.token and request.headers.get("Authorization") != server.does.token:
            return web.Response(status=401)
        answered: web.StreamResponse = await handler(request)
        return answered

    return guard


class _Routes:
    def __init__(self, server: StandIn) -> None:
        self.server = server

    async def socket(self, request: web.Request) -> web.StreamResponse:
        if self.server.does.no_sockets:
            return web.Response(status=404)
        client = request.query["clientId"]
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.server.sockets[client] = (socket, False)
        hello = {"status": {"exec_info": {"queue_remaining": 0}}, "sid": client}
        await socket.send_json({"type": "status", "data": hello})
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT and not self.server.does.old:
                    said = json.loads(message.data)
                    flags = said["data"] if said["type"] == "feature_flags" else {}
                    negotiated = bool(flags.get("supports_preview_metadata"))
                    self.server.sockets[client] = (socket, negotiated)
        finally:
            self.server.sockets.pop(client, None)
        return socket

    async def load(self, _: web.Request) -> web.StreamResponse:
        count = len(self.server.pending) + len(self.server.running)
        return web.json_response({"exec_info": {"queue_remaining": count}})

    async def prompt(self, request: web.Request) -> web.StreamResponse:
        server, does = self.server, self.server.does
        if special := does.prompts.next():
            return await special(request)
        body = await request.json()
        prompt_id = body.get("prompt_id", str(uuid.uuid4()))
        if str(uuid.UUID(prompt_id)) != prompt_id:
            return web.json_response(
                {"error": nodes.problem("invalid_prompt_id", "no UUID")}, status=400
            )
        refused = nodes.faults_of(body.get("prompt"), set(server.received))
        if refused:
            return web.json_response({"error": refused[0], "node_errors": refused[1]}, status=400)
        assert does.no_sockets or body["client_id"] in server.sockets, "connect before the prompt"
        server.submitted.append(body)
        for number in range(does.others):
            server.number += 1
            server.pending.append([server.number, f"{OTHERS}-{number}", {}, {}, []])
        server.number += 1
        extra = body.get("extra_data", {}) | {"client_id": body["client_id"]}
        server.pending.append([server.number, prompt_id, body["prompt"], extra, ["save"]])
        if does.lose_answer and request.transport is not None:
            does.lose_answer = False
            request.transport.abort()
        errors = {
            "9": {"errors": [nodes.problem("required_input_missing", "Required input is missing")]}
        }
        return web.json_response(
            {
                "prompt_id": prompt_id,
                "number": server.number,
                "node_errors": errors if does.partly else {},
            }
        )

    async def queue(self, _: web.Request) -> web.StreamResponse:
        queue = {"queue_running": self.server.running, "queue_pending": self.server.pending}
        return web.json_response(queue)

    async def unqueue(self, request: web.Request) -> web.StreamResponse:
        for prompt in (await request.json()).get("delete", []):
            before = len(self.server.pending)
            self.server.pending[:] = [job for job in self.server.pending if job[1] != prompt]
            if len(self.server.pending) < before:
                self.server.deleted.append(prompt)
        return web.Response()

    async def interrupt(self, request: web.Request) -> web.StreamResponse:
        prompt = (await request.json()).get("prompt_id")
        self.server.interrupts.append(prompt)
        if self.server.does.old or any(job[1] == prompt for job in self.server.running):
            self.server.stopped = True
        return web.Response()

    async def free(self, request: web.Request) -> web.StreamResponse:
        assert (await request.json())["unload_models"]
        self.server.freed += 1
        return web.Response()

    async def history(self, request: web.Request) -> web.StreamResponse:
        if special := self.server.does.histories.next():
            return await special(request)
        prompt = request.match_info["id"]
        known = self.server.history
        return web.json_response({prompt: known[prompt]} if prompt in known else {})

    async def view(self, request: web.Request) -> web.StreamResponse:
        if special := self.server.does.views.next():
            return await special(request)
        data = self.server.files.get(request.query["filename"])
        if data is None or request.query["type"] != "output":
            return web.Response(status=404)
        return web.Response(body=data, content_type="image/png")

    async def upload(self, request: web.Request) -> web.StreamResponse:
        if special := self.server.does.uploads.next():
            return await special(request)
        form = await request.post()
        image = form["image"]
        assert isinstance(image, web.FileField)
        assert form["type"] == "input"
        name = image.filename.replace(".png", " (1).png")  # as when the name is taken
        folder = str(form["subfolder"])
        self.server.received[f"{folder}/{name}"] = image.file.read()
        return web.json_response({"name": name, "subfolder": folder, "type": "input"})

    async def object_info(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(nodes.object_info(without=self.server.does.without))

    async def system_stats(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"system": {"comfyui_version": "0.33.0"}, "devices": []})


class _GoneError(Exception):
    """The run ends without a word: the server was restarted."""


class _StoppedError(Exception):
    """The run was interrupted."""


class _Worker:
    def __init__(self, server: StandIn) -> None:
        self.server = server

    async def work(self) -> None:
        while True:
            if not self.server.pending or self.server.does.held:
                await asyncio.sleep(0.001)
                continue
            job = self.server.pending.pop(0)
            self.server.running.append(job)
            self.server.stopped = False
            try:
                await self._run(job)
            finally:
                self.server.running.clear()

    async def _run(self, job: list[Any]) -> None:
        _, prompt, graph, extra, _ = job
        does = self.server.does
        if prompt.startswith(OTHERS):
            await asyncio.sleep(0.1)
            return
        tell = {"prompt_id": prompt}
        status: dict[str, Any] = {"status_str": "success", "completed": True, "messages": []}
        outputs: dict[str, Any] = {}
        try:
            await self._tell(extra, "execution_start", tell | {"timestamp": 1})
            await self._tell(extra, "execution_cached", tell | {"nodes": [], "timestamp": 1})
            if not does.cached:
                await self._sample(prompt, graph, extra)
            outputs = {"save": {"images": [self._draw(graph)]}}
            await self._tell(extra, "executed", tell | {"node": "save", "output": outputs["save"]})
            await self._tell(extra, "execution_success", tell)
            await asyncio.sleep(does.history_seconds)
        except _GoneError:
            return
        except _StoppedError:
            status = _failed("execution_interrupted", tell | {"node_id": "sampler"})
            await self._tell(extra, "execution_interrupted", tell)
        except RuntimeError:
            status = _failed("execution_error", tell | (does.error or {}))
            await self._tell(extra, "execution_error", tell | (does.error or {}))
        self.server.history[prompt] = {
            "prompt": job,
            "outputs": outputs,
            "status": status,
            "meta": {},
        }
        self.server.running.clear()
        await self._tell(extra, "executing", tell | {"node": None})

    async def _sample(self, prompt: str, graph: Json, extra: Json) -> None:
        does = self.server.does
        sampler = next(key for key, node in graph.items() if node["class_type"] == "KSampler")
        steps = graph[sampler]["inputs"]["steps"]
        await self._tell(extra, "executing", {"node": sampler, "prompt_id": prompt})
        await self._tell(
            extra, "progress", {"node": "checkpoint", "value": 9, "max": 9999, "prompt_id": prompt}
        )
        for step in range(1, steps + 1):
            await asyncio.sleep(does.step_seconds)
            await self._misbehave(prompt, step, extra)
            state = {"value": step, "max": steps, "state": "running", "node_id": sampler}
            if not does.old:
                await self._tell(
                    extra, "progress_state", {"prompt_id": prompt, "nodes": {sampler: state}}
                )
            told = {"node": sampler, "value": step, "max": steps, "prompt_id": prompt}
            if does.old:
                await self._tell(extra, "progress", told)
                await self._preview(prompt, extra, step)
            else:
                await self._preview(prompt, extra, step)
                await self._tell(extra, "progress", told)

    async def _misbehave(self, prompt: str, step: int, extra: Json) -> None:
        does = self.server.does
        if step == does.hang_up_at:
            for socket, _ in list(self.server.sockets.values()):
                await socket.close()
            self.server.sockets.clear()
        if step == does.restart_at:
            self.server.history.clear()
            self.server.pending.clear()
            raise _GoneError
        if self.server.stopped or step == does.intruder_at:
            raise _StoppedError
        if step == 2 and does.error:
            raise RuntimeError
        if step == 2 and does.blocked:
            blocked = {"prompt_id": prompt, "exception_type": "ExecutionBlocked", "node_id": "8"}
            await self._tell(extra, "execution_error", blocked)
        if does.junk:
            await self._send(extra, '{"type": "crystools.monitor", "data": {"cpu": 3}}')
            await self._send(extra, "no json")
            await self._send(extra, '{"type": "progress", "data": [1]}')
            await self._send(extra, b"\x00\x00")
            await self._send(extra, struct.pack(">II", 1, 1) + b"no picture")
            await self._send(extra, struct.pack(">II", 4, 2**31) + b"{}")
            await self._send(extra, struct.pack(">II", 3, 2) + b"42text")
            if step == 1:
                await self._send(extra, struct.pack(">II", 1, 2) + bytes(5 * 2**20))

    async def _preview(self, prompt: str, extra: Json, step: int) -> None:
        if "preview_method" not in extra:
            return
        file = io.BytesIO()
        Image.new("RGB", (1024, 640), (step % 256, 80, 120)).save(file, "JPEG")
        _, negotiated = self.server.sockets.get(extra["client_id"], (None, False))
        if negotiated:
            metadata = json.dumps(
                {"node_id": "sampler", "prompt_id": prompt, "image_type": "image/jpeg"}
            )
            head = struct.pack(">II", 4, len(metadata)) + metadata.encode()
        else:
            head = struct.pack(">II", 1, 1)
        await self._send(extra, head + file.getvalue())

    def _draw(self, graph: Json) -> dict[str, str]:
        inputs = [node["inputs"] for node in graph.values()]
        prefix = graph["save"]["inputs"]["filename_prefix"]
        sized = next(found for found in inputs if isinstance(found.get("width"), int))
        known = json.dumps(graph).replace(prefix, "")
        for path, data in self.server.received.items():
            known = known.replace(path, str(zlib.crc32(data)))
        colours = np.random.default_rng(zlib.crc32(known.encode())).integers(
            0, 256, (4, 4, 3), np.uint8
        )
        file = io.BytesIO()
        picture = Image.fromarray(colours).resize(
            (sized["width"], sized["height"]), Image.Resampling.NEAREST
        )
        picture.save(file, "PNG", compress_level=1)
        name = f"{prefix}_00001_.png"
        assert name not in self.server.files, "an earlier picture would be taken for this one"
        self.server.files[name] = file.getvalue()
        return {"filename": name, "subfolder": "", "type": self.server.does.kind}

    async def _tell(self, extra: Json, kind: str, data: dict[str, Any]) -> None:
        await self._send(extra, json.dumps({"type": kind, "data": data}))

    async def _send(self, extra: Json, frame: str | bytes) -> None:
        socket, _ = self.server.sockets.get(extra["client_id"], (None, False))
        if socket is None or self.server.does.mute:
            return
        with contextlib.suppress(ConnectionError, RuntimeError):
            await (socket.send_str(frame) if isinstance(frame, str) else socket.send_bytes(frame))


def _failed(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    secret = {
        "traceback": ["/home/comfy/secret.py"],
        "current_inputs": {"text": ["a secret prompt"]},
    }
    return {"status_str": "error", "completed": False, "messages": [[kind, data | secret]]}
