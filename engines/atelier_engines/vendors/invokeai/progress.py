"""From what an InvokeAI server tells to stages, and to steps that only ever count up."""

from __future__ import annotations

import base64
import io

from PIL import Image

from atelier_engines.event import Event, Stage, Step
from atelier_engines.media import Encoded
from atelier_engines.preview import preview_from_image
from atelier_engines.task import ImageTask
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors.invokeai.graph import DENOISE, STAGES
from atelier_engines.vendors.invokeai.wire import Heard, Item, ProgressImage

_MOST_PIXELS = 4 * 2**20


class Progress:
    """Where one task stands."""

    def __init__(self, task: ImageTask) -> None:
        """Stand at the beginning."""
        self._steps = task.steps or 1
        self._total = self._steps * len(task.seeds)
        self._interval = task.preview_interval
        self._stage = ""
        self._pictures = self._step = self._shown = 0

    async def events(self, state: Item | Heard) -> list[Event]:
        """What is new by this."""
        match state:
            case Item(status="pending"):
                return self._entered("queued")
            case Item():
                return [] if self._stage in STAGES.values() else self._entered("generate")
            case Heard(percentage=None):
                return self._entered(STAGES.get(state.invocation_source_id, self._stage))
            case Heard(percentage=float(part)) if state.invocation_source_id == DENOISE:
                return await self._stepped(round(part * self._steps), state.image)
            case _:
                return []

    def finish_picture(self) -> list[Event]:
        """What is new now that one more picture is drawn."""
        self._pictures += 1
        reached = self._steps * self._pictures
        if reached <= self._step:
            return []
        self._step = reached
        return [Step(index=reached, total=self._total)]

    def _entered(self, stage: str) -> list[Event]:
        if stage == self._stage:
            return []
        self._stage = stage
        return [Stage(name=stage)]

    async def _stepped(self, step: int, image: ProgressImage | None) -> list[Event]:
        reached = self._steps * self._pictures + step
        if reached <= self._step:
            return []
        self._step = reached
        preview = None
        if image is not None and self._interval and reached - self._shown >= self._interval:
            preview = await result_from_thread(lambda: _preview(image))
            self._shown = reached
        return [Step(index=reached, total=self._total, preview=preview)]


def _preview(image: ProgressImage) -> Encoded | None:
    """A small JPEG of it; None when it is broken. A preview is not worth a failure."""
    try:
        data = base64.b64decode(image.data_url.partition(",")[2], validate=True)
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as opened:
            if opened.width * opened.height > _MOST_PIXELS:
                return None
            return preview_from_image(opened.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
