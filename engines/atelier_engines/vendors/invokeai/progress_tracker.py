"""Maps items and events of an InvokeAI server to stages, and to steps in ascending order."""

from __future__ import annotations

import base64

from atelier_engines.event import Event, Stage, Step
from atelier_engines.media import Encoded
from atelier_engines.task import ImageTask
from atelier_engines.vendors.images import load_preview
from atelier_engines.vendors.invokeai.graph import DENOISE, STAGES
from atelier_engines.vendors.invokeai.schemas import ProgressImage, QueueItem, SocketEvent

_PREVIEW_SIDE = 256  # pixels, as of other engines' previews


class ProgressTracker:
    """Progress of one task over all its images."""

    def __init__(self, task: ImageTask) -> None:
        """Start at step 0 of the first image."""
        self._steps = task.steps or 1
        self._total = self._steps * len(task.seeds)
        self._interval = task.preview_interval
        self._preview_side = min(_PREVIEW_SIDE, max(task.width, task.height))
        self._stage = ""
        self._images = self._step = self._last_preview = 0

    async def events(self, update: QueueItem | SocketEvent) -> list[Event]:
        """Return the stages and steps that this update adds."""
        match update:
            case QueueItem(status="pending"):
                return self._enter_stage("queued")
            case QueueItem():
                return [] if self._stage in STAGES.values() else self._enter_stage("generate")
            case SocketEvent(percentage=None):
                return self._enter_stage(STAGES.get(update.invocation_source_id, self._stage))
            case SocketEvent(percentage=float(part)) if update.invocation_source_id == DENOISE:
                return await self._advance_to(round(part * self._steps), update.image)
            case _:
                return []

    def finish_image(self) -> list[Event]:
        """Count an image as complete, and return the step that this adds."""
        self._images += 1
        reached = self._steps * self._images
        if reached <= self._step:
            return []
        self._step = reached
        return [Step(index=reached, total=self._total)]

    def _enter_stage(self, stage: str) -> list[Event]:
        if stage == self._stage:
            return []
        self._stage = stage
        return [Stage(name=stage)]

    async def _advance_to(self, step: int, image: ProgressImage | None) -> list[Event]:
        reached = self._steps * self._images + step
        if reached <= self._step:
            return []
        self._step = reached
        preview = None
        if image is not None and self._interval and reached - self._last_preview >= self._interval:
            preview = await _load_preview(image, self._preview_side)
            self._last_preview = reached
        return [Step(index=reached, total=self._total, preview=preview)]


async def _load_preview(image: ProgressImage, side: int) -> Encoded | None:
    """Return the preview, or None if it cannot be decoded: a broken preview is no failure.

    The server sends it in the size of the latents, an eighth of the image's, so it is scaled up to `side` pixels.
    """
    try:
        data = base64.b64decode(image.data_url.partition(",")[2], validate=True)
    except ValueError:
        return None
    return await load_preview(data, min_side=side)
