"""Fetches the images that a job has saved, in the size that its workflow made."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial

from atelier_engines.errors import EngineFailedError
from atelier_engines.event import Output
from atelier_engines.task import ImageTask
from atelier_engines.vendors.comfyui import errors
from atelier_engines.vendors.comfyui.api import ComfyClient
from atelier_engines.vendors.comfyui.schemas import FileRef
from atelier_engines.vendors.images import load_file
from atelier_engines.vendors.outages import MAX_INVALID_POLLS, OutageWaiter


async def fetch_results(
    client: ComfyClient,
    prompt: str,
    nodes: tuple[str, ...],
    task: ImageTask,
    *,
    seed: int,
    waiter: OutageWaiter,
) -> AsyncGenerator[Output]:
    """Yield every image that these nodes have saved in a job that has ended, in their order.

    Raises:
        EngineFailedError: the job failed, has saved no image, or its files are gone.
        EngineError: see `errors.translate_failure`.
    """
    files = await _list_files(client, prompt, nodes, waiter)
    for file in files:
        sent = await waiter.ask(partial(client.fetch_image, file))
        image = await load_file("comfyui", sent.data)
        reason = ""
        if (image.width, image.height) != (task.width, task.height):
            reason = (
                f"the workflow makes {image.width} x {image.height} pixels "
                f"of {task.width} x {task.height}"
            )
        yield Output(media=image, seed=seed, size_reason=reason)


async def _list_files(
    client: ComfyClient, prompt: str, nodes: tuple[str, ...], waiter: OutageWaiter
) -> list[FileRef]:
    ask = partial(waiter.ask, max_invalid=MAX_INVALID_POLLS)
    entry = await ask(partial(client.history_entry, prompt))
    if entry is None:
        raise EngineFailedError("comfyui lost the job's history")
    if not entry.status.succeeded:
        raise errors.translate_failure(entry.status)
    files = [file for node in nodes for file in entry.files(node)]
    if not files:
        raise EngineFailedError(
            f"comfyui finished without an image from the nodes {', '.join(nodes)}; "
            "name the nodes that save images in the bindings' outputs"
        )
    return files
