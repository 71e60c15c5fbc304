"""Vast.ai's side of the wire; the machines that it rents out are real Atelier servers on this one."""

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
    {"actual_status": "running"},  # its ports come a little later
)


def offer(number: int, dph: float = 0.4) -> dict[str, Any]:
    """An offer of the machine 100 + number."""
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
class Box:
    """A rented machine."""

    id: int
    offer: Mapping[str, Any]
    order: Mapping[str, Any]
    server: RunningServer | None
    looks: int = 0
    """How often it was looked at."""
    fate: dict[str, Any] = field(default_factory=dict)
    """Replaces what is shown of it."""

    def shown(self) -> dict[str, Any]:
        """As the service describes it."""
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
            ports = {f"{PORT}/tcp": [{"HostIp": "0.0.0.0", "HostPort": host_port}]}  # noqa: S104
            facts |= {"actual_status": "running", "status_msg": "success", "ports": ports}
        return facts | self.fate


@dataclass(slots=True)
class StandIn:
    """Honest unless told otherwise."""

    directory: Path
    """Where the machines have their disks."""
    api: str = ""
    offers: list[dict[str, Any]] = field(default_factory=lambda: [offer(1), offer(2), offer(3)])
    boxes: dict[int, Box] = field(default_factory=dict)
    rented: list[Box] = field(default_factory=list)
    """Every machine that was ever paid for."""
    taken: set[int] = field(default_factory=set)
    """Offers that somebody else has rented meanwhile."""
    fates: dict[int, dict[str, Any]] = field(default_factory=dict)
    """What becomes of machines rented by that offer; `dead` boots nothing."""
    engines: dict[str, Any] = field(default_factory=lambda: dict(SKETCH))
    """Of the Atelier servers on the machines."""
    searches: ResponseQueue = field(default_factory=ResponseQueue)
    creations: ResponseQueue = field(default_factory=ResponseQueue)
    looks: ResponseQueue = field(default_factory=ResponseQueue)
    lists: ResponseQueue = field(default_factory=ResponseQueue)
    destructions: ResponseQueue = field(default_factory=ResponseQueue)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(7000))

    def reset(self) -> None:
        """Be honest again, and forget and end everything."""
        self.close()
        for line in (self.searches, self.creations, self.looks, self.lists, self.destructions):
            line.clear()
        for memory in (self.boxes, self.rented, self.taken, self.fates):
            memory.clear()
        self.offers = [offer(1), offer(2), offer(3)]
        self.engines = dict(SKETCH)

    def close(self) -> None:
        """End every machine."""
        for box in self.boxes.values():
            _end(box)

    def add(self, label: str, *, boots: bool = True, fate: Mapping[str, Any] | None = None) -> Box:
        """A machine that was rented in an earlier life."""
        order = {"label": label}
        return self._boot(offer(9), order, {**(fate or {}), **({} if boots else {"dead": True})})

    async def search(self, request: web.Request) -> web.StreamResponse:
        """POST /api/v0/bundles/."""
        if (trouble := _stranger(request) or self.searches.next_handler()) is not None:
            return await trouble(request) if callable(trouble) else trouble
        asked = await request.json()
        for name, filters in asked.items():
            known = name in _CONTROLS or (name in _FIELDS and set(filters) <= _OPERATORS)
            if not known:
                return _refused(400, "invalid_args", f"unknown filter {name}")
        most = asked.get("dph_total", {}).get("lte", float("inf"))
        found = [one for one in self.offers if one["dph_total"] <= most]
        return _answer({"offers": sorted(found, key=lambda one: one["dph_total"])})

    async def create(self, request: web.Request) -> web.StreamResponse:
        """PUT /api/v0/asks/{id}/."""
        if (trouble := _stranger(request) or self.creations.next_handler()) is not None:
            return await trouble(request) if callable(trouble) else trouble
        return await self.accept(request)

    async def accept(self, request: web.Request) -> web.Response:
        """Rent it out."""
        number, order = int(request.match_info["id"]), await request.json()
        chosen = next((one for one in self.offers if one["id"] == number), None)
        if chosen is None or number in self.taken:
            return _refused(404, "invalid_args", f"error 404/3603: no_such_ask {number}")
        if not isinstance(order.get("env"), dict) or not (
            order.get("image") or order.get("template_hash_id")
        ):
            return _refused(
                400, "invalid_args", "env must be an object, and image or template given"
            )
        box = self._boot(chosen, order, self.fates.get(number, {}))
        return _answer({"success": True, "new_contract": box.id})

    async def show(self, request: web.Request) -> web.StreamResponse:
        """GET /api/v0/instances/{id}/."""
        if (trouble := _stranger(request) or self.looks.next_handler()) is not None:
            return await trouble(request) if callable(trouble) else trouble
        box = self.boxes.get(int(request.match_info["id"]))
        return _answer({"instances": box.shown() if box else None})

    async def list(self, request: web.Request) -> web.StreamResponse:
        """GET /api/v1/instances/, two a page."""
        if (trouble := _stranger(request) or self.lists.next_handler()) is not None:
            return await trouble(request) if callable(trouble) else trouble
        after = int(request.query.get("after_token", 0))
        rest = sorted(box_id for box_id in self.boxes if box_id > after)
        page = [self.boxes[box_id].shown() for box_id in rest[:2]]
        token = str(rest[1]) if len(rest) > len(page) else None
        return _answer({"instances": page, "next_token": token})

    async def destroy(self, request: web.Request) -> web.StreamResponse:
        """DELETE /api/v0/instances/{id}/."""
        if (trouble := _stranger(request) or self.destructions.next_handler()) is not None:
            return await trouble(request) if callable(trouble) else trouble
        box = self.boxes.pop(int(request.match_info["id"]), None)
        if box is None:
            return _refused(404, "no_such_instance", "error 404: no such instance")
        _end(box)
        return _answer({"success": True})

    def _boot(
        self, chosen: Mapping[str, Any], order: Mapping[str, Any], fate: Mapping[str, Any]
    ) -> Box:
        box_id, fate = next(self._ids), dict(fate)
        server = None
        if not fate.pop("dead", False):
            disk = self.directory / str(box_id)
            disk.mkdir()
            server = launch(disk, wait=False, engines=self.engines, drain_seconds=0)
        box = Box(box_id, chosen, order, server, fate=fate)
        self.boxes[box_id] = box
        self.rented.append(box)
        return box


def _end(box: Box) -> None:
    if box.server is not None and box.server.process.poll() is None:
        box.server.kill()


def _stranger(request: web.Request) -> web.Response | None:
    if request.headers.get("authorization") == f"Bearer {KEY}":
        return None
    return _refused(401, "auth_error", f"bad key {request.headers.get('authorization')}")


def _refused(status: int, error: str, msg: str) -> web.Response:
    return _answer({"success": False, "error": error, "msg": msg}, status)


def _answer(body: object, status: int = 200) -> web.Response:
    """JSON whose type names no charset: the official command takes no other."""
    return web.Response(
        status=status, body=json.dumps(body).encode(), content_type="application/json"
    )


@contextmanager
def stand_in(directory: Path) -> Iterator[StandIn]:
    """A running one."""
    made = StandIn(directory)
    app = web.Application()
    app.router.add_post("/api/v0/bundles/", made.search)
    app.router.add_put("/api/v0/asks/{id}/", made.create)
    app.router.add_get("/api/v0/instances/{id}/", made.show)
    app.router.add_get("/api/v1/instances/", made.list)
    app.router.add_delete("/api/v0/instances/{id}/", made.destroy)
    with serve(app) as (made.api,):
        yield made
    made.close()
