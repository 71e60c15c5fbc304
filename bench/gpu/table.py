"""The table of a run."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version

import torch

from bench.gpu.measure import Measured

_PACKAGES = ("torch", "diffusers", "transformers")
_PARTS = ("text encoders", "denoiser", "ControlNet", "decoder")


def describe_machine(device: torch.device, dtype: torch.dtype, *, small: bool) -> dict[str, str]:
    """The card, the versions, and what was run."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "no card"
    return {
        "card": card,
        "CUDA": str(torch.version.cuda),
        "Python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "format": str(dtype).removeprefix("torch."),
        "networks": "small, a dry run" if small else "Stable Diffusion XL, random weights",
    }


def render(machine: Mapping[str, str], found: Sequence[Measured], left_out: Iterable[str]) -> str:
    """Everything as Markdown: times in milliseconds, and how many times the floor they are."""
    lines = ["# Four steps of SDXL-Lightning", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    heads = ("way", "case", "batch of images", "diffusers", "ours / diffusers", *_PARTS)
    lines += ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [f"| {' | '.join(_list_cells(one))} |" for one in found]
    missing = [f"- {one}" for one in left_out]
    return "\n".join([*lines, "", *(["Not measured:", "", *missing] if missing else []), ""])


def _list_cells(one: Measured) -> list[str]:
    cells = [one.way, one.case.name, _cell(one.image, one.image_floor)]
    cells += [f"{one.diffusers:.1f}", f"{one.image / one.diffusers:.2f}"]
    return [*cells, *(_cell(one.parts.get(name), one.floors.get(name)) for name in _PARTS)]


def _cell(time: float | None, floor: float | None) -> str:
    if time is None:
        return ""
    return f"{time:.1f}" if floor is None else f"{time:.1f} ({time / floor:.2f} × {floor:.1f})"
