"""Times one case in one way: the whole batch of images, each component, and diffusers' pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from atelier_engines.local import devices
from bench.figures import median
from bench.gpu import ways
from bench.gpu.image import STEPS, Case, Drawing, make_diffusers
from bench.gpu.networks import Networks
from bench.gpu.ways import Way

_ROUNDS = 5
_PEAKS: Mapping[str, float] = {"H100": 790e12, "H200": 790e12}
"""Operations a second in 16 bits that these cards reach in large products, by their names' parts: of the 989 that are
printed for them. Others have no floor in the table."""
_EVERY_STEP = ("denoiser", "ControlNet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was found; times are medians, in milliseconds."""

    case: Case
    """What was drawn."""
    way: Way
    """How it was run."""
    image: float
    """A whole batch, prompts to images."""
    diffusers: float
    """The same by diffusers' pipeline, in turns with it."""
    parts: Mapping[str, float]
    """Each component alone, once."""
    floors: Mapping[str, float]
    """What the operations of each component take at the card's peak; empty where that is unknown."""
    image_floor: float | None
    """The same of a whole batch."""

    @property
    def summary(self) -> str:
        """In words."""
        floor = "" if self.image_floor is None else f", {self.image / self.image_floor:.2f} × floor"
        return f"{self.image:.1f} ms, {self.image / self.diffusers:.2f} × diffusers{floor}"


def measure(networks: Networks, case: Case, way: Way) -> Measured:
    """Time a case; everything runs once before, and blocks are compiled then."""
    device = networks.device
    drawing = Drawing(networks, case)
    operations = _count_operations(drawing)
    peak = next((one for name, one in _PEAKS.items() if name in _card(device)), None)
    floors = {name: count / peak * 1e3 for name, count in operations.items()} if peak else {}
    bare = make_diffusers(networks, drawing)
    with ways.running(way):
        drawing.draw()
        bare()
        parts = drawing.list_parts()
        draw: Callable[[], object] = drawing.draw
        if way == "CUDA graphs":
            draw = ways.capture(drawing.draw)
            parts = {name: ways.capture(call) for name, call in parts.items()}
        rounds = [(_time(draw, device), _time(bare, device)) for _ in range(_ROUNDS)]
        times = {
            name: median([_time(call, device) for _ in range(_ROUNDS)])
            for name, call in parts.items()
        }
    return Measured(
        case=case,
        way=way,
        image=median([ours for ours, _ in rounds]),
        diffusers=median([theirs for _, theirs in rounds]),
        parts=times,
        floors=floors,
        image_floor=_add(floors) if floors else None,
    )


def _count_operations(drawing: Drawing) -> Mapping[str, int]:
    """Floating-point operations of each component, as torch counts them; a product and a sum are two."""
    found: dict[str, int] = {}
    with ways.running("eager"):
        for name, call in drawing.list_parts().items():
            with FlopCounterMode(display=False) as counter:
                call()
            found[name] = counter.get_total_flops()
    return found


def _add(floors: Mapping[str, float]) -> float:
    """The floor of a whole batch: some components run at every step."""
    return sum(one * (STEPS if name in _EVERY_STEP else 1) for name, one in floors.items())


def _time(call: Callable[[], object], device: torch.device) -> float:
    """Milliseconds of one call, until the device is idle."""
    devices.synchronize(device)
    began = time.perf_counter()
    call()
    devices.synchronize(device)
    return (time.perf_counter() - began) * 1e3


def _card(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""
