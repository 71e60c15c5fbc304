"""Every engine of a remote service, for tests that compare receipts with what the service received."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from atelier_engines.conformance.remote_service import FakeJobService, FakeService
from tests.vendors.bfl import stand_in as bfl
from tests.vendors.comfyui import stand_in as comfyui
from tests.vendors.comfyui.state import StandIn as ComfyuiStandIn
from tests.vendors.fal import stand_in as fal
from tests.vendors.ideogram import stand_in as ideogram
from tests.vendors.invokeai import stand_in as invokeai
from tests.vendors.openai import stand_in as openai
from tests.vendors.replicate import stand_in as replicate
from tests.vendors.replicate.models import FRAMES, KONTEXT, PRO, SCHNELL
from tests.vendors.runpod import stand_in as runpod


@contextmanager
def _one_comfyui() -> Iterator[ComfyuiStandIn]:
    with comfyui.stand_ins(1) as (server,):
        yield server


STAND_INS: Mapping[str, Callable[[], AbstractContextManager[FakeService]]] = {
    "bfl": bfl.stand_in,
    "comfyui": _one_comfyui,
    "fal": fal.stand_in,
    "ideogram": ideogram.stand_in,
    "invokeai": invokeai.stand_in,
    "openai": openai.stand_in,
    "replicate": replicate.stand_in,
    "runpod": runpod.stand_in,
}
"""The fake service of each engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One configuration of an engine."""

    engine: str
    """Type of the engine."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings beside those of its fake service."""

    def __str__(self) -> str:
        model = self.settings.get("model", "").split("/")
        others = self.settings.keys() - {"model"}
        return "-".join(part for part in (self.engine, *model, *sorted(others)) if part)


_LORAS = {"medieval": "https://example.org/medieval.safetensors"}
SUBJECTS = (
    *(
        Subject(engine="bfl", settings={"model": model})
        for model in bfl.FIELDS
        if "fill" not in model
    ),
    Subject(engine="comfyui"),
    Subject(engine="fal"),
    Subject(engine="fal", settings={"model": "fal-ai/fast-sdxl", "loras": _LORAS}),
    Subject(engine="fal", settings={"comfy": fal.COMFY}),
    Subject(engine="ideogram"),
    Subject(engine="invokeai"),
    Subject(engine="openai"),
    Subject(engine="openai", settings={"model": "gpt-image-1.5"}),
    Subject(engine="replicate"),
    *(Subject(engine="replicate", settings={"model": name}) for name in (SCHNELL, PRO, KONTEXT)),
    Subject(
        engine="replicate",
        settings={
            "model": FRAMES,
            "fields": {"prompt": "text", "init_image": "pages"},
            "inputs": {"loop": "on"},
        },
    ),
    Subject(engine="runpod"),
)
"""All engines of services that draw themselves; `atelier` and `vastai` pass tasks on to servers like this one."""


def read_received(service: FakeService) -> list[object]:
    """What the service was sent, one item a paid request: fields, and digests of images."""
    match service:
        case openai.StandIn():
            return [
                (
                    one.kind,
                    dict(one.fields),
                    _digests({name: file.image for name, file in one.images.items()}),
                )
                for one in service.paid
            ]
        case ideogram.StandIn():
            return [(one.kind, dict(one.fields), _digests(one.images)) for one in service.paid]
        case ComfyuiStandIn():
            return [body["prompt"] for body in service.submitted]
        case invokeai.StandIn():
            return [(item.graph, item.seed) for item in service.queue.items.values()]
        case FakeJobService():
            return [job.body for job in service.jobs.values()]
        case _:
            raise TypeError(type(service).__name__)


def _digests(images: Mapping[str, Image.Image]) -> dict[str, int]:
    return {name: zlib.crc32(image.tobytes()) for name, image in images.items()}
