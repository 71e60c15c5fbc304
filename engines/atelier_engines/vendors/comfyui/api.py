"""Client of one ComfyUI server."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Mapping, Sequence

import httpx2
from pydantic import JsonValue, ValidationError

from atelier_engines.closing import Stop, combine
from atelier_engines.media import Encoded
from atelier_engines.task import JSON
from atelier_engines.vendors.client import VendorClient, connect
from atelier_engines.vendors.comfyui import errors
from atelier_engines.vendors.comfyui.cancelling import stop_jobs
from atelier_engines.vendors.comfyui.config import ServerConfig
from atelier_engines.vendors.comfyui.event_socket import EventSocket
from atelier_engines.vendors.comfyui.node_classes import ObjectInfo
from atelier_engines.vendors.comfyui.schemas import (
    FileRef,
    History,
    HistoryEntry,
    PromptAccepted,
    QueueInfo,
    QueueState,
    SystemStats,
)

_PROBE_SECONDS = 3.0
_FREE_SECONDS = 5.0


class ComfyClient:
    """The requests of one server that the engine makes."""

    def __init__(
        self, config: ServerConfig, *, response_timeout_seconds: float, delay_scale: float = 1.0
    ) -> None:
        """Connect to nothing yet; pauses are multiplied by `delay_scale`."""
        self.url = config.url.rstrip("/")
        self._headers = {name: value.get_secret_value() for name, value in config.headers.items()}
        read_timeout = min(response_timeout_seconds, 30.0)
        client = connect(self.url, headers=self._headers, read_timeout_seconds=read_timeout)
        self.vendor = VendorClient(
            name="comfyui",
            client=client,
            delay_scale=delay_scale,
            response_timeout_seconds=response_timeout_seconds,
            translate_error=errors.translate_rejection,
        )
        self._pending = 0

    async def close(self) -> None:
        """Close all connections."""
        await self.vendor.client.aclose()

    def add_pending(self, count: int) -> None:
        """Count jobs that are about to be submitted, for `queue_length`; negative once they are submitted."""
        self._pending += count

    async def queue_length(self) -> int | None:
        """Return the number of jobs in the queue, or None if the server does not respond; never retried."""
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                response = await self.vendor.client.get("/prompt")
            response.raise_for_status()
            info = QueueInfo.model_validate_json(response.content)
        except (httpx2.HTTPError, TimeoutError, ValidationError):
            return None
        return info.exec_info.queue_remaining + self._pending

    async def object_info(self) -> ObjectInfo:
        """Fetch the server's node classes."""
        return await self.vendor.request("GET", "/object_info", model=ObjectInfo)

    async def version(self) -> str:
        """Fetch the version of ComfyUI; empty if the server does not report it."""
        stats = await self.vendor.request("GET", "/system_stats", model=SystemStats)
        return stats.system.comfyui_version

    def open_socket(self, client_id: str) -> EventSocket:
        """Create the socket that receives messages about the jobs of that client id."""
        address = f"ws{self.url.removeprefix('http')}/ws?clientId={client_id}"
        return EventSocket(address, self._headers, reconnect_seconds=self.vendor.delay_scale)

    async def upload(self, data: bytes, kind: str) -> str:
        """Upload a PNG file and return its name on the server; `kind` is part of it.

        Raises:
            EngineError: see VendorClient.read.
        """
        name = f"atelier_{uuid.uuid4().hex}_{kind}.png"
        stored = await self.vendor.request(
            "POST",
            "/upload/image",
            model=FileRef,
            files=[("image", (name, data, "image/png"))],
            data={"type": "input", "subfolder": "atelier"},
        )
        return stored.path

    async def submit(
        self, graph: Mapping[str, JsonValue], *, prompt: str, client_id: str, previews: str
    ) -> None:
        """Submit a job under the id `prompt`.

        Raises:
            RejectedError: the server rejects the graph, or a part of it; then the rest runs.
            EngineUncertainError: the response was lost, so that the server may know the job.
            EngineUnavailableError: the server cannot be reached.
        """
        body: dict[str, JSON] = {"prompt": graph, "prompt_id": prompt, "client_id": client_id}
        if previews != "none":
            body["extra_data"] = {"preview_method": previews}
        accepted = await self.vendor.submit_once("POST", "/prompt", model=PromptAccepted, json=body)
        rejection = errors.translate_node_errors(accepted.node_errors)
        if rejection is not None:
            raise rejection

    async def knows(self, prompt: str) -> bool:
        """Whether the job waits, runs or has ended there; not so if the server was restarted since.

        The queue is read first: jobs move from it to the history, and never back.
        """
        return await self.queue_position(prompt) is not None or (
            await self.history_entry(prompt) is not None
        )

    async def history_entry(self, prompt: str) -> HistoryEntry | None:
        """Fetch the history entry of a job; None if it has not ended, or is unknown."""
        found = await self.vendor.request("GET", f"/history/{prompt}", model=History)
        return found.root.get(prompt)

    async def queue_position(self, prompt: str) -> int | None:
        """Fetch the number of jobs ahead, 0 while the job runs; None if it is not in the queue."""
        queue = await self.vendor.request("GET", "/queue", model=QueueState)
        return queue.position(prompt)

    async def fetch_image(self, file: FileRef) -> Encoded:
        """Download an image that a job has saved."""
        params = {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
        return await self.vendor.fetch("/view", kinds=("image/",), params=params)

    async def stop(self, prompts: Sequence[str]) -> Stop:
        """Stop these jobs, and say what became of all together; see `stop_jobs`."""
        return combine((await self.stop_each(prompts)).values())

    async def stop_each(self, prompts: Sequence[str]) -> Mapping[str, Stop]:
        """Stop these jobs, and say what became of each; see `stop_jobs`."""
        return await stop_jobs(self.vendor.client, prompts) if prompts else {}

    async def free_memory(self) -> None:
        """Make the server unload its models, best effort, so that the next job finds more memory."""
        with contextlib.suppress(httpx2.HTTPError, TimeoutError):
            async with asyncio.timeout(_FREE_SECONDS):
                body = {"unload_models": True, "free_memory": True}
                await self.vendor.client.post("/free", json=body)
