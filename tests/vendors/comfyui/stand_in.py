"""Fake ComfyUI servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import WSMsgType, web

from atelier_engines.conformance.fake_server import serve
from tests.vendors.comfyui import nodes
from tests.vendors.comfyui.state import OTHERS, StandIn
from tests.vendors.comfyui.validation import find_problems, problem
from tests.vendors.comfyui.worker import Worker

Json = Any
"""What JSON decodes to."""


@contextmanager
def stand_ins(count: int) -> Iterator[list[StandIn]]:
    """Start that many servers on free ports."""
    servers = [StandIn() for _ in range(count)]
    with serve(*map(_app, servers)) as urls:
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
        app.router.add_post(f"{prefix}/api/jobs/{{id}}/cancel", routes.cancel)

    async def working(_: web.Application) -> Json:
        task = asyncio.create_task(Worker(server).work())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    app.cleanup_ctx.append(working)
    return app


def _guard(server: StandIn) -> Json:
    @web.middleware
    async def guard(request: web.Request, handler: Json) -> web.StreamResponse:
        if server.does.down and request.transport is not None:
            request.transport.abort()
            return web.Response()
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
        count = len(self.server.pending) + len(self.server.executing)
        return web.json_response({"exec_info": {"queue_remaining": count}})

    async def prompt(self, request: web.Request) -> web.StreamResponse:
        server, does = self.server, self.server.does
        if scripted := server.submits.next_handler():
            return await scripted(request)
        body = await request.json()
        prompt_id = body.get("prompt_id", str(uuid.uuid4()))
        if str(uuid.UUID(prompt_id)) != prompt_id:
            return web.json_response({"error": problem("invalid_prompt_id", "no UUID")}, status=400)
        rejection = find_problems(body.get("prompt"), set(server.received))
        if rejection:
            return web.json_response(
                {"error": rejection[0], "node_errors": rejection[1]}, status=400
            )
        assert does.no_sockets or body["client_id"] in server.sockets, "connect before the prompt"
        server.submitted.append(body)
        for number in range(does.others):
            server.number += 1
            server.pending.append([server.number, f"{OTHERS}-{number}", {}, {}, []])
        server.number += 1
        extra = body.get("extra_data", {}) | {"client_id": body["client_id"]}
        server.pending.append([server.number, prompt_id, body["prompt"], extra, ["save"]])
        if does.lose_response and request.transport is not None:
            does.lose_response = False
            request.transport.abort()
        errors = {"9": {"errors": [problem("required_input_missing", "Required input is missing")]}}
        return web.json_response(
            {
                "prompt_id": prompt_id,
                "number": server.number,
                "node_errors": errors if does.partly else {},
            }
        )

    async def queue(self, _: web.Request) -> web.StreamResponse:
        self.server.asked += 1
        queue = {"queue_running": self.server.executing, "queue_pending": self.server.pending}
        return web.json_response(queue)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        server, prompt = self.server, request.match_info["id"]
        if server.does.old:
            return web.Response(status=404, text="404: Not Found")
        server.asked_to_cancel.append(prompt)
        if scripted := server.cancels.next_handler():
            return await scripted(request)
        running = any(job[1] == prompt for job in server.executing)
        if running:
            server.interrupts.append(prompt)
            server.stopped = True
        return web.json_response({"cancelled": running or self._dequeue(prompt)})

    def _dequeue(self, prompt: str) -> bool:
        before = len(self.server.pending)
        self.server.pending[:] = [job for job in self.server.pending if job[1] != prompt]
        if len(self.server.pending) == before:
            return False
        self.server.deleted.append(prompt)
        return True

    async def unqueue(self, request: web.Request) -> web.StreamResponse:
        if scripted := self.server.cancels.next_handler():
            return await scripted(request)
        for prompt in (await request.json()).get("delete", []):
            self.server.asked_to_cancel.append(prompt)
            self._dequeue(prompt)
        return web.Response()

    async def interrupt(self, request: web.Request) -> web.StreamResponse:
        if scripted := self.server.cancels.next_handler():
            return await scripted(request)
        prompt = (await request.json()).get("prompt_id")
        self.server.interrupts.append(prompt)
        if self.server.does.old or any(job[1] == prompt for job in self.server.executing):
            self.server.stopped = True
        return web.Response()

    async def free(self, request: web.Request) -> web.StreamResponse:
        assert (await request.json())["unload_models"]
        self.server.freed += 1
        return web.Response()

    async def history(self, request: web.Request) -> web.StreamResponse:
        if scripted := self.server.polls.next_handler():
            return await scripted(request)
        prompt = request.match_info["id"]
        known = self.server.history
        return web.json_response({prompt: known[prompt]} if prompt in known else {})

    async def view(self, request: web.Request) -> web.StreamResponse:
        if scripted := self.server.downloads.next_handler():
            return await scripted(request)
        data = self.server.files.get(request.query["filename"])
        if data is None or request.query["type"] != "output":
            return web.Response(status=404)
        return web.Response(body=data, content_type="image/png")

    async def upload(self, request: web.Request) -> web.StreamResponse:
        if scripted := self.server.uploads.next_handler():
            return await scripted(request)
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
