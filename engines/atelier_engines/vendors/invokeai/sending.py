"""Sends a task's pictures to an InvokeAI server, in the size that the task has."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from atelier_engines.media import Pixels
from atelier_engines.task import ImageTask
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors.images import encode_png, resize_mask_to_cover, resize_to_cover
from atelier_engines.vendors.invokeai.graph import Sent
from atelier_engines.vendors.invokeai.server import Server


async def pictures_of(task: ImageTask, server: Server) -> AsyncGenerator[Sent]:
    """What has been sent, each time one more picture is there."""
    sent = Sent()

    async def name_of(fitted: Callable[[Pixels, int, int], Pixels], pixels: Pixels) -> str:
        png = await result_from_thread(lambda: encode_png(fitted(pixels, task.width, task.height)))
        return await server.upload(png)

    if task.init_image is not None:
        sent = replace(sent, start=await name_of(resize_to_cover, task.init_image))
        yield sent
    if task.mask is not None:
        sent = replace(sent, mask=await name_of(_kept, task.mask))
        yield sent
    for control in task.controls:
        sent = replace(
            sent, controls=(*sent.controls, await name_of(resize_to_cover, control.image))
        )
        yield sent


def _kept(mask: Pixels, width: int, height: int) -> Pixels:
    """The mask as this server takes it: 255 is kept, 0 is repainted."""
    return Pixels(array=255 - resize_mask_to_cover(mask, width, height).array)
