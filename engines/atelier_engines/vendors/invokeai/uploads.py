"""Uploads a task's images to an InvokeAI server, in the task's size."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

from atelier_engines.task import ImageTask
from atelier_engines.vendors.images import encode_task_image, encode_task_mask
from atelier_engines.vendors.invokeai.api import InvokeAiClient
from atelier_engines.vendors.invokeai.graph import UploadedImages


async def upload_images(task: ImageTask, client: InvokeAiClient) -> AsyncGenerator[UploadedImages]:
    """Upload all images; yields the names of those uploaded so far after each one."""
    uploaded = UploadedImages()
    if task.init_image is not None:
        name = await client.upload(await encode_task_image(task, task.init_image))
        uploaded = replace(uploaded, init_image=name)
        yield uploaded
    if task.mask is not None:
        name = await client.upload(await encode_task_mask(task, task.mask, inverted=True))
        uploaded = replace(uploaded, mask=name)
        yield uploaded
    for control in task.controls:
        name = await client.upload(await encode_task_image(task, control.image))
        uploaded = replace(uploaded, controls=(*uploaded.controls, name))
        yield uploaded
