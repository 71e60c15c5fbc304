"""The queue of the fake InvokeAI server: runs items one after the other, and sends events about them."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import socketio
from PIL import Image

ROOM = "default"


@dataclass(slots=True)
class Item:
    """One item."""

    number: int
    batch_id: str
    graph: dict[str, Any]
    seed: int
    status: str = "pending"
    polled: bool = False
    """Whether its state was requested; until then it does not complete, so that no poll overtakes its events."""
    sequence: int = 0
    started_at: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    results: dict[str, Any] = field(default_factory=dict)
    mapping: dict[str, str] = field(default_factory=dict)

    def wire(self) -> dict[str, Any]:
        """Its state in the shape of the server, without fields that are None."""
        data = {
            "item_id": self.number,
            "status": self.status,
            "status_sequence": self.sequence,
            "batch_id": self.batch_id,
            "destination": self.batch_id,
            "started_at": self.started_at,
            "queue_id": ROOM,
            "error_type": self.error_type,
            "error_message": self.error_message,
            "error_traceback": self.error_type and "Traceback: /home/invoke/secret.py",
            "session": {"results": self.results, "prepared_source_mapping": self.mapping},
        }
        return {name: value for name, value in data.items() if value is not None}


@dataclass(slots=True)
class Queue:
    """Runs items, and behaves as its fields say."""

    socket: socketio.AsyncServer
    items: dict[int, Item] = field(default_factory=dict)
    images: dict[str, bytes] = field(default_factory=dict)
    paused: bool = False
    stuck: bool = False
    """Whether items never get beyond the first step."""
    silent: bool = False
    """Whether it sends no events, although sockets connect."""
    drops: bool = False
    """Whether it drops all connections half way, and sends no event afterwards."""
    shuffled: bool = False
    """Whether it sends every change of status twice, an older one last."""
    failure: tuple[str, str] | None = None
    """Type and message of the exception of the denoising node."""
    result: Mapping[str, Any] | None = None
    """Output of the last node, instead of an image."""
    preview: str = ""
    """Data URL of every preview, instead of a valid one."""
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _gpu: asyncio.Lock = field(default_factory=asyncio.Lock)
    _running: set[asyncio.Task[None]] = field(default_factory=set)

    def reset(self) -> None:
        """Forget everything, and behave regularly."""
        self.items.clear()
        self.images.clear()
        self.paused = self.stuck = self.silent = self.drops = self.shuffled = False
        self.failure = self.result = None
        self.preview = ""
        self._gpu = asyncio.Lock()

    def add(self, batch_id: str, graph: dict[str, Any], seed: int) -> int:
        """Enqueue an item; returns its number."""
        item = Item(next(self._numbers), batch_id, graph, seed)
        self.items[item.number] = item
        task = asyncio.get_running_loop().create_task(self._run(item))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return item.number

    async def cancel(self, batch_ids: list[str]) -> int:
        """Cancel items that have not ended, with one bulk event, as the server does."""
        hit = [item for item in self.items.values() if item.batch_id in batch_ids and _alive(item)]
        for item in hit:
            item.status = "canceled"
        await self.send(
            "queue_items_canceled", {"canceled_item_ids": [item.number for item in hit]}
        )
        return len(hit)

    async def send(self, event: str, data: Mapping[str, Any]) -> None:
        """Send an event to all subscribed sockets."""
        if not self.silent:
            await self.socket.emit(event, {"queue_id": ROOM, "timestamp": 1, **data}, room=ROOM)

    async def _run(self, item: Item) -> None:
        async with self._gpu:
            while self.paused and item.number in self.items:  # noqa: ASYNC110 (set from another thread)
                await asyncio.sleep(0.001)
            if not self._is_alive(item):
                return
            item.started_at = "2026-11-27 12:00:00.000"
            await self._change(item, "in_progress")
            for name, node in item.graph["nodes"].items():
                await self._send(item, "invocation_started", name)
                if node["type"] == "denoise_latents" and not await self._denoise(item, name):
                    return
                if not self._is_alive(item):
                    return
                await self._record(item, name, node)
            while not item.polled and self._is_alive(item):  # noqa: ASYNC110 (as above)
                await asyncio.sleep(0.001)
            if self._is_alive(item):
                await self._change(item, "completed")

    async def _denoise(self, item: Item, name: str) -> bool:
        """Whether it got to the end."""
        steps = item.graph["nodes"][name]["steps"]
        await self._send(item, "invocation_progress", name, percentage=None, message="Preparing")
        for step in range(1, steps + 1):
            await asyncio.sleep(0.001)
            if not self._is_alive(item):
                return False
            if self.drops:
                self.silent = True
                for sid, _ in list(self.socket.manager.get_participants("/", ROOM)):
                    await self.socket.disconnect(sid)
            noise = item.graph["nodes"]["noise"]
            size = {"width": noise["width"], "height": noise["height"]}
            image = {**size, "dataURL": self.preview or _preview(step, **size)}
            await self._send(
                item, "invocation_progress", name, percentage=step / steps, image=image
            )
            while self.stuck and self._is_alive(item):  # noqa: ASYNC110 (as above)
                await asyncio.sleep(0.001)
        if self.failure:
            item.error_type, item.error_message = self.failure
            await self._send(item, "invocation_error", name, error_type=item.error_type)
            await self._change(item, "failed")
            return False
        return True

    async def _record(self, item: Item, name: str, node: Mapping[str, Any]) -> None:
        prepared = f"prepared-{name}"
        item.mapping[prepared] = name
        output: Mapping[str, Any] = {"type": f"{node['type']}_output", "image": None}
        if node["type"] == "l2i":
            await asyncio.sleep(0.005)  # decoding takes its time too
            image_name = f"{item.number}-{item.batch_id[-8:]}.png"
            self.images[image_name] = generated(item)
            output = {"type": "image_output", "image": {"image_name": image_name}, "width": 8}
            output = output if self.result is None else self.result
        item.results[prepared] = dict(output)

    async def _change(self, item: Item, status: str) -> None:
        before, item.status = item.status, status
        item.sequence += 1
        about = {"item_id": item.number, "batch_id": item.batch_id}
        data = {**about, "status": status, "status_sequence": item.sequence}
        await self.send("queue_item_status_changed", data)
        if self.shuffled:
            late = {**about, "status": before, "status_sequence": item.sequence - 1}
            await self.send("queue_item_status_changed", late)

    async def _send(self, item: Item, event: str, node: str, **data: object) -> None:
        about = {"item_id": item.number, "batch_id": item.batch_id, "invocation_source_id": node}
        await self.send(event, {**about, "invocation": {"id": f"prepared-{node}"}, **data})

    def _is_alive(self, item: Item) -> bool:
        return item.number in self.items and _alive(item)


def generated(item: Item) -> bytes:
    """A PNG file whose colour depends on the whole graph, except for random names."""
    noise = item.graph["nodes"]["noise"]
    nodes = [sorted(node.items()) for node in item.graph["nodes"].values() if "image" not in node]
    colour = zlib.crc32(repr((nodes, item.seed)).encode()) & 0xFFFFFF
    file = io.BytesIO()
    Image.new("RGB", (noise["width"], noise["height"]), f"#{colour:06x}").save(file, "PNG")
    return file.getvalue()


def _preview(step: int, width: int, height: int) -> str:
    """In the size of the latents; the server names that of the image beside it."""
    file = io.BytesIO()
    Image.new("RGB", (width // 8, height // 8), (step % 256, 0, 0)).save(file, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _alive(item: Item) -> bool:
    return item.status in {"pending", "in_progress", "waiting"}
