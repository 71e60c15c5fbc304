"""Runs the queue of a fake ComfyUI server, and generates PNG files."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from tests.vendors.comfyui.nodes import SAVERS
from tests.vendors.comfyui.state import OTHERS, StandIn

Json = Any
"""What JSON decodes to."""


class _GoneError(Exception):
    """The run ends without a message: the server was restarted."""


class _StoppedError(Exception):
    """The run was interrupted."""


class Worker:
    """Runs one job at a time."""

    def __init__(self, server: StandIn) -> None:
        self.server = server

    async def work(self) -> None:
        """Run jobs until cancelled."""
        while True:
            if not self.server.pending or self.server.does.held:
                await asyncio.sleep(0.001)
                continue
            job = self.server.pending.pop(0)
            self.server.executing.append(job)
            self.server.stopped = False
            try:
                await self._run(job)
            finally:
                self.server.executing.clear()

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
            outputs = self._save(graph)
            for node, output in outputs.items():
                await self._tell(extra, "executed", tell | {"node": node, "output": output})
            await self._tell(extra, "execution_success", tell)
            await asyncio.sleep(does.history_seconds)
        except _GoneError:
            return
        except _StoppedError:
            status = _failed("execution_interrupted", tell | {"node_id": "sampler"})
            await self._tell(extra, "execution_interrupted", tell)
        except RuntimeError:
            status = _failed("execution_error", tell | (does.error or {}))
            if does.blocked:
                blocked = {"node_type": "Other", "exception_type": "ExecutionBlocked"}
                status["messages"].insert(0, ["execution_error", blocked])
            await self._tell(extra, "execution_error", tell | (does.error or {}))
        self.server.history[prompt] = {
            "prompt": job,
            "outputs": outputs,
            "status": status,
            "meta": {},
        }
        self.server.executing.clear()
        await self._tell(extra, "executing", tell | {"node": None})

    async def _sample(self, prompt: str, graph: Json, extra: Json) -> None:
        loader = next(key for key, node in graph.items() if "Loader" in node["class_type"])
        tell = {"node": loader, "value": 9, "max": 9999, "prompt_id": prompt}
        await self._tell(extra, "progress", tell)
        for sampler, steps in _samplers(graph).items():
            await self._tell(extra, "executing", {"node": sampler, "prompt_id": prompt})
            for step in range(1, steps + 1):
                await asyncio.sleep(self.server.does.step_seconds)
                await self._apply_behaviour(prompt, step, extra)
                await self._report_step(prompt, extra, sampler, step, steps)

    async def _report_step(
        self, prompt: str, extra: Json, sampler: str, step: int, steps: int
    ) -> None:
        old = self.server.does.old
        nodes = {
            "checkpoint": {"value": 1, "max": 1, "state": "finished", "node_id": "checkpoint"},
            sampler: {"value": step, "max": steps, "state": "running", "node_id": sampler},
        }
        if not old:
            await self._tell(extra, "progress_state", {"prompt_id": prompt, "nodes": nodes})
            await self._preview(prompt, extra, step)
        progress = {"node": sampler, "value": step, "max": steps, "prompt_id": prompt}
        await self._tell(extra, "progress", progress)
        if old:
            await self._preview(prompt, extra, step)

    async def _apply_behaviour(self, prompt: str, step: int, extra: Json) -> None:
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
            await self._send(extra, struct.pack(">II", 1, 1) + b"no image")
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

    def _save(self, graph: Json) -> dict[str, Any]:
        """Outputs of the nodes that save images."""
        return {
            key: {
                "images": [
                    self._generate(graph, key, node, number) for number in range(_batch_size(graph))
                ]
            }
            for key, node in graph.items()
            if node["class_type"] in SAVERS
        }

    def _generate(self, graph: Json, key: str, node: Json, number: int) -> dict[str, str]:
        prefix = node["inputs"].get("filename_prefix", f"ComfyUI_temp_{self.server.number}")
        known = json.dumps(graph).replace(prefix, "") + str(number)
        for path, data in self.server.received.items():
            known = known.replace(path, str(zlib.crc32(data)))
        colours = np.random.default_rng(zlib.crc32(known.encode())).integers(
            0, 256, (4, 4, 3), np.uint8
        )
        file = io.BytesIO()
        image = Image.fromarray(colours).resize(_size(graph), Image.Resampling.NEAREST)
        image.save(file, "PNG", compress_level=1)
        name = f"{prefix}_{number + 1:05}_.png"
        kind = SAVERS[node["class_type"]]
        if kind == "output":
            assert name not in self.server.files, f"the prefix of {key} is not unique"
            self.server.files[name] = file.getvalue()
            kind = self.server.does.kind
        return {"filename": name, "subfolder": "", "type": kind}

    async def _tell(self, extra: Json, kind: str, data: dict[str, Any]) -> None:
        await self._send(extra, json.dumps({"type": kind, "data": data}))

    async def _send(self, extra: Json, frame: str | bytes) -> None:
        socket, _ = self.server.sockets.get(extra["client_id"], (None, False))
        if socket is None or self.server.does.mute:
            return
        with contextlib.suppress(ConnectionError, RuntimeError):
            await (socket.send_str(frame) if isinstance(frame, str) else socket.send_bytes(frame))


def _samplers(graph: Json) -> dict[str, int]:
    """Steps of the nodes that sample, in the order of the graph."""
    steps = {}
    for key, node in graph.items():
        if node["class_type"] == "KSampler":
            steps[key] = node["inputs"]["steps"]
        elif node["class_type"] == "SamplerCustomAdvanced":
            steps[key] = graph[node["inputs"]["sigmas"][0]]["inputs"]["steps"]
    return steps


def _batch_size(graph: Json) -> int:
    inputs = [node["inputs"] for node in graph.values()]
    return max(int(found.get("batch_size", 1)) for found in inputs)


def _size(graph: Json) -> tuple[int, int]:
    inputs = [node["inputs"] for node in graph.values()]
    sized = next(found for found in inputs if isinstance(found.get("width"), int))
    scale = next((found["scale_by"] for found in inputs if "scale_by" in found), 1.0)
    return round(sized["width"] * scale), round(sized["height"] * scale)


def _failed(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    secret = {
        "traceback": ["/home/comfy/secret.py"],
        "current_inputs": {"text": ["a secret prompt"]},
    }
    return {"status_str": "error", "completed": False, "messages": [[kind, data | secret]]}
