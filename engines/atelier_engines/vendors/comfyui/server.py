"""One ComfyUI server, and everything that is asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Mapping

import httpx2
from pydantic import JsonValue, ValidationError

from atelier_engines.errors import EngineUnavailableError, EngineUncertainError
from atelier_engines.media import Encoded
from atelier_engines.task import JSON
from atelier_engines.vendors.comfyui import errors
from atelier_engines.vendors.comfyui.config import ServerConfig
from atelier_engines.vendors.comfyui.listener import Listener
from atelier_engines.vendors.comfyui.wire import (
    Accepted,
    File,
    History,
    Load,
    ObjectInfo,
    Queue,
    Record,
    SystemStats,
)
from atelier_engines.vendors.http import Vendor

_PROBE_SECONDS = 3.0
_CANCEL_SECONDS = 5.0
_SETTLING_SECONDS = 1.0


class Server:
    """A connection to one server."""

    def __init__(
        self, config: ServerConfig, *, request_seconds: float, delay_scale: float = 1.0
    ) -> None:
        """Connect to nothing yet; pauses are multiplied by `delay_scale`."""
        self.url = config.url.rstrip("/")
        self._headers = {name: value.get_secret_value() for name, value in config.headers.items()}
        client = httpx2.AsyncClient(
            base_url=self.url, headers=self._headers, timeout=min(request_seconds, 30.0)
        )
        self.vendor = Vendor(
            name="comfyui",
            client=client,
            delay_scale=delay_scale,
            patience_seconds=request_seconds,
            refusal=errors.of_answer,
        )
        self._arriving = 0

    async def close(self) -> None:
        """Give the connections back."""
        await self.vendor.client.aclose()

    def arriving(self, count: int) -> None:
        """Count jobs that are on their way here, so that others go elsewhere; negative when they are there."""
        self._arriving += count

    async def load(self) -> int | None:
        """Jobs that it has to do; None when it does not answer. Asked but once: others may do the work."""
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                response = await self.vendor.client.get("/prompt")
            response.raise_for_status()
            found = Load.model_validate_json(response.content)
        except (httpx2.HTTPError, TimeoutError, ValidationError):
            return None
        return found.exec_info.queue_remaining + self._arriving

    async def object_info(self) -> ObjectInfo:
        """Its classes of nodes."""
        return await self.vendor.read("GET", "/object_info", answer=ObjectInfo)

    async def version(self) -> str:
        """Of ComfyUI; empty when it does not say."""
        stats = await self.vendor.read("GET", "/system_stats", answer=SystemStats)
        return stats.system.comfyui_version

    def listener(self, client_id: str) -> Listener:
        """What will hear of the jobs of that client id."""
        address = f"ws{self.url.removeprefix('http')}/ws?clientId={client_id}"
        return Listener(address, self._headers, again_seconds=self.vendor.delay_scale)

    async def upload(self, data: bytes, kind: str) -> str:
        """The name of a PNG file that it now has; `kind` is part of it.

        Raises:
            EngineError: see Vendor.read.
        """
        name = f"atelier_{uuid.uuid4().hex}_{kind}.png"
        stored = await self.vendor.read(
            "POST",
            "/upload/image",
            answer=File,
            files=[("image", (name, data, "image/png"))],
            data={"type": "input", "subfolder": "atelier"},
        )
        return stored.path

    async def submit(self, graph: Mapping[str, JsonValue], *, client_id: str, previews: str) -> str:
        """The id of the job that makes this graph's pictures.

        An order whose answer was lost is looked up by the id that it was given, not repeated.

        Raises:
            InvalidTaskError: the server finds fault with the values.
            ModelMissingError: it lacks a node or a file.
            EngineUncertainError: the answer was lost, and the server no longer answers.
            EngineUnavailableError: it can't be reached, or does not know the order.
        """
        prompt = str(uuid.uuid4())
        body: dict[str, JSON] = {"prompt": graph, "prompt_id": prompt, "client_id": client_id}
        if previews != "none":
            body["extra_data"] = {"preview_method": previews}
        try:
            accepted = await self.vendor.order("POST", "/prompt", answer=Accepted, json=body)
        except EngineUncertainError as lost:
            await self.vendor.pause(_SETTLING_SECONDS)
            if await self._knows(prompt, lost):
                return prompt
            raise EngineUnavailableError(
                "comfyui did not get the job, or lost it at once"
            ) from lost
        refused = errors.of_node_errors(accepted.node_errors)
        if refused is not None:
            await self.cancel((accepted.prompt_id,))
            raise refused
        return accepted.prompt_id

    async def _knows(self, prompt: str, lost: EngineUncertainError) -> bool:
        try:
            return await self.position(prompt) is not None or (
                await self.history(prompt) is not None
            )
        except EngineUnavailableError:
            raise lost from None

    async def history(self, prompt: str) -> Record | None:
        """How a job ended; None while it has not, or when the server knows nothing of it."""
        found = await self.vendor.read("GET", f"/history/{prompt}", answer=History)
        return found.root.get(prompt)

    async def position(self, prompt: str) -> int | None:
        """Jobs before that one, 0 while it runs; None when it is not in the queue."""
        queue = await self.vendor.read("GET", "/queue", answer=Queue)
        return queue.position(prompt)

    async def result(self, file: File) -> Encoded:
        """A picture that a job has made."""
        where = {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
        return await self.vendor.fetch("/view", kinds=("image/",), params=where)

    async def cancel(self, prompts: tuple[str, ...]) -> None:
        """Take these jobs out of the queue, and interrupt the one of them that runs; best effort.

        A job may begin between the two, so the queue is left first.
        """
        await self._tell("/queue", {"delete": list(prompts)})
        for prompt in prompts:
            await self._interrupt(prompt)

    async def free(self) -> None:
        """Have it unload its models, best effort: after it ran out of memory the next try finds more."""
        await self._tell("/free", {"unload_models": True, "free_memory": True})

    async def _interrupt(self, prompt: str) -> None:
        """Only if it runs: very old servers ignore the id, and would stop somebody else's job."""
        with contextlib.suppress(httpx2.HTTPError, TimeoutError, ValidationError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                response = await self.vendor.client.get("/queue")
            queue = Queue.model_validate_json(response.content)
            if any(prompt in job[1:2] for job in queue.queue_running):
                await self._tell("/interrupt", {"prompt_id": prompt})

    async def _tell(self, path: str, body: JSON) -> None:
        with contextlib.suppress(httpx2.HTTPError, TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                await self.vendor.client.post(path, json=body)
