"""A fake Vast.ai, whose instances are real Atelier servers on this machine."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from atelier_engines.conformance.fake_server import ResponseQueue, serve
from tests.conftest import SKETCH, RunningServer, launch

KEY = "vast-key-of-the-tests"
PORT = 50051
_FIELDS = {"num_gpus", "gpu_ram", "reliability", "direct_port_count", "inet_down", "cuda_max_good"}
_FIELDS |= {"disk_space", "dph_total", "rentable", "rented", "verified", "gpu_name", "external"}
_CONTROLS = {"type", "order", "limit", "allocated_storage"}
_OPERATORS = {"eq", "neq", "gt", "gte", "lt", "lte", "in", "notin"}
_BEFORE_RUNNING: tuple[dict[str, Any], ...] = (
    {"actual_status": None},
    {"actual_status": "loading", "status_msg": "Pulling fs layer"},
    {"actual_status": "running"},  # its ports are mapped a little later
)


def offer(number: int, dph: float = 0.4) -> dict[str, Any]:
    """An offer of host 100 + number."""
    return {
        "id": number,
        "machine_id": 100 + number,
        "gpu_name": "RTX 4090",
        "num_gpus": 1,
        "gpu_ram": 24564,
        "dph_total": dph,
        "reliability2": 0.995,
    }


@dataclass(slots=True)
class FakeInstance:
    """A rented instance."""

    id: int
    offer: Mapping[str, Any]
    order: Mapping[str, Any]
    server: RunningServer | None
    looks: int = 0
    """Number of times its state was requested."""
    fate: dict[str, Any] = field(default_factory=dict)
    """Replaces fields of its state."""

    def shown(self) -> dict[str, Any]:
        """Its state in the shape of the service."""
        self.looks += 1
        facts: dict[str, Any] = {
            "id": self.id,
            "machine_id": self.offer["machine_id"],
            "label": self.order["label"],
            "dph_total": self.offer["dph_total"],
            "intended_status": "running",
            "public_ipaddr": " 127.0.0.1\n",
            "ports": None,
            "start_date": time.time() - 1,
            "extra_env": list(self.order.get("env", {}).items()),
        }
        if self.looks <= len(_BEFORE_RUNNING):
            facts |= _BEFORE_RUNNING[self.looks - 1]
        else:
            host_port = self.server.address.rpartition(":")[2] if self.server else "9"
            ports = {f"{PORT}/tcp": [{"HostIp": "0.0.0.0", "HostPort": host_port}]}  # noqa: S104 (in an answer; nothing listens there)
            facts |= {"actual_status": "running", "status_msg": "success", "ports": ports}
        return facts | self.fate


@dataclass(slots=True)
class StandIn:
    """The API, with all instances of the account."""

    directory: Path
    """Directory with the data of the instances."""
    api: str = ""
    offers: list[dict[str, Any]] = field(default_factory=lambda: [offer(1), offer(2), offer(3)])
    instances: dict[int, FakeInstance] = field(default_factory=dict)
    rented: list[FakeInstance] = field(default_factory=list)
    """All instances that were ever rented."""
    queries: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of all searches."""
    taken: set[int] = field(default_factory=set)
    """Offers that others have rented."""
    fates: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Replaced fields of instances by their offer; `dead` starts no server."""
    engines: dict[str, Any] = field(default_factory=lambda: dict(SKETCH))
    """Engines of the Atelier servers on the instances."""
    searches: ResponseQueue = field(default_factory=ResponseQueue)
    creations: ResponseQueue = field(default_factory=ResponseQueue)
    looks: ResponseQueue = field(default_factory=ResponseQueue)
    lists: ResponseQueue = field(default_factory=ResponseQueue)
    destructions: ResponseQueue = field(default_factory=ResponseQueue)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(7000))

    def reset(self) -> None:
        """Stop all instances, and return to regular responses."""
        self.close()
        for queue in (self.searches, self.creations, self.looks, self.lists, self.destructions):
            queue.clear()
        for records in (self.instances, self.rented, self.queries, self.taken, self.fates):
            records.clear()
        self.offers = [offer(1), offer(2), offer(3)]
        self.engines = dict(SKETCH)

    def close(self) -> None:
        """Stop all instances."""
        for instance in self.instances.values():
            _stop(instance)

    def add(
        self, label: str, *, starts: bool = True, fate: Mapping[str, Any] | None = None
    ) -> FakeInstance:
        """An instance that a previous process has rented."""
        order = {"label": label}
        return self._start(offer(9), order, {**(fate or {}), **({} if starts else {"dead": True})})

    async def search(self, request: web.Request) -> web.StreamResponse:
        """POST /api/v0/bundles/."""
        if (scripted := await _scripted(request, self.searches)) is not None:
            return scripted
        query = await request.json()
        self.queries.append(query)
        for name, filters in query.items():
            known = name in _CONTROLS or (name in _FIELDS and set(filters) <= _OPERATORS)
            if not known:
                return _reject(400, "invalid_args", f"unknown filter {name}")
        most = float(query.get("dph_total", {}).get("lte", "inf"))
        names = query.get("gpu_name", {}).get("in")
        found = [
            one
            for one in self.offers
            if one["dph_total"] <= most and (names is None or one["gpu_name"] in names)
        ]
        return _respond({"offers": sorted(found, key=lambda one: one["dph_total"])})

    async def create(self, request: web.Request) -> web.StreamResponse:
        """PUT /api/v0/asks/{id}/."""
        if (scripted := await _scripted(request, self.creations)) is not None:
            return scripted
        return await self.accept(request)

    async def accept(self, request: web.Request) -> web.Response:
        """Create the instance."""
        number, order = int(request.match_info["id"]), await request.json()
        chosen = next((one for one in self.offers if one["id"] == number), None)
        if chosen is None or number in self.taken:
            return _reject(404, "invalid_args", f"error 404/3603: no_such_ask {number}")
        if not isinstance(order.get("env"), dict) or not (
            order.get("image") or order.get("template_hash_id")
        ):
            return _reject(
                400, "invalid_args", "env must be an object, and image or template given"
            )
        instance = self._start(chosen, order, self.fates.get(number, {}))
        return _respond({"success": True, "new_contract": instance.id})

    async def show(self, request: web.Request) -> web.StreamResponse:
        """GET /api/v0/instances/{id}/."""
        if (scripted := await _scripted(request, self.looks)) is not None:
            return scripted
        instance = self.instances.get(int(request.match_info["id"]))
        return _respond({"instances": instance.shown() if instance else None})

    async def list(self, request: web.Request) -> web.StreamResponse:
        """GET /api/v1/instances/, two per page."""
        if (scripted := await _scripted(request, self.lists)) is not None:
            return scripted
        if json.loads(request.query["order_by"]) != [{"col": "id", "dir": "asc"}]:
            return _reject(400, "invalid_args", "the tests know one order")
        after = int(request.query.get("after_token", 0))
        rest = sorted(instance_id for instance_id in self.instances if instance_id > after)
        page = [self.instances[instance_id].shown() for instance_id in rest[:2]]
        token = str(rest[1]) if len(rest) > len(page) else None
        return _respond({"instances": page, "next_token": token})

    async def destroy(self, request: web.Request) -> web.StreamResponse:
        """DELETE /api/v0/instances/{id}/."""
        if (scripted := await _scripted(request, self.destructions)) is not None:
            return scripted
        instance = self.instances.pop(int(request.match_info["id"]), None)
        if instance is None:
            return _reject(404, "no_such_instance", "error 404: no such instance")
        _stop(instance)
        return _respond({"success": True})

    def _start(
        self, chosen: Mapping[str, Any], order: Mapping[str, Any], fate: Mapping[str, Any]
    ) -> FakeInstance:
        instance_id, fate = next(self._ids), dict(fate)
        server = None
        if not fate.pop("dead", False):
            disk = self.directory / str(instance_id)
            disk.mkdir()
            variables = {
                name: value
                for name, value in order.get("env", {}).items()
                if not name.startswith("-")
            }
            server = launch(
                disk,
                wait=False,
                environment=variables,
                engines=self.engines,
                drain_seconds=0,
                log={"level": "debug"},
            )
        instance = FakeInstance(instance_id, chosen, order, server, fate=fate)
        self.instances[instance_id] = instance
        self.rented.append(instance)
        return instance


def _stop(instance: FakeInstance) -> None:
    if instance.server is not None and instance.server.process.poll() is None:
        instance.server.kill()


async def _scripted(request: web.Request, queue: ResponseQueue) -> web.StreamResponse | None:
    """The response to a request with a wrong key, or the scripted one; None for the regular one."""
    if request.headers.get("authorization") != f"Bearer {KEY}":
        return _reject(401, "auth_error", f"bad key {request.headers.get('authorization')}")
    handler = queue.next_handler()
    return None if handler is None else await handler(request)


def _reject(status: int, error: str, msg: str) -> web.Response:
    return _respond({"success": False, "error": error, "msg": msg}, status)


def _respond(body: object, status: int = 200) -> web.Response:
    """JSON without a charset in its content type, as the official command requires."""
    return web.Response(
        status=status, body=json.dumps(body).encode(), content_type="application/json"
    )


@contextmanager
def stand_in(directory: Path) -> Iterator[StandIn]:
    """Start the fake service."""
    service = StandIn(directory)
    app = web.Application()
    app.router.add_post("/api/v0/bundles/", service.search)
    app.router.add_put("/api/v0/asks/{id}/", service.create)
    app.router.add_get("/api/v0/instances/{id}/", service.show)
    app.router.add_get("/api/v1/instances/", service.list)
    app.router.add_delete("/api/v0/instances/{id}/", service.destroy)
    with serve(app) as (service.api,):
        yield service
    service.close()
