"""The ControlNet residuals of a run of the denoiser, whose rows may have different controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from atelier_engines.diffusion.runtimes.base import Conditioning, ControlNet, Residuals
from atelier_engines.diffusion.sampler import ModelInput


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlInput:
    """One control of one row in this run."""

    network: str
    """The ControlNet's name."""
    map: torch.Tensor
    """(1, 3, height, width) in pixels, 0 to 1, on the runtime's device and in its dtype."""
    scale: float
    """Factor of the residuals; 0 is the same as no control."""


def compute_residuals(
    controlnets: Mapping[str, ControlNet],
    rows: ModelInput,
    conditioning: Conditioning,
    hints: Sequence[Sequence[ControlInput]],
) -> Residuals | None:
    """The residuals of all rows, or None where no row follows anything.

    Each row's own are summed in the order of its hints, as in diffusers' MultiControlNetModel
    (0.42.1); the first hints of all rows are computed first, a run for each network, then the
    second ones. Rows that follow nothing get zeros.

    Args:
        controlnets: the ControlNets by name.
        rows: what the denoiser is to be run on.
        conditioning: a row for each row of latents.
        hints: those of each row.
    """
    followed = [[hint for hint in row if hint.scale] for row in hints]
    total: Residuals | None = None
    for turn in range(max(map(len, followed), default=0)):
        due = {row: found[turn] for row, found in enumerate(followed) if len(found) > turn}
        for network in dict.fromkeys(hint.network for hint in due.values()):
            chosen = {row: hint for row, hint in due.items() if hint.network == network}
            made = _run(controlnets[network], rows, conditioning, chosen)
            total = _add(total, made, tuple(chosen), len(hints))
    return total


def _run(
    controlnet: ControlNet,
    rows: ModelInput,
    conditioning: Conditioning,
    chosen: dict[int, ControlInput],
) -> Residuals:
    """The network's residuals for the chosen rows alone."""
    maps = [hint.map for hint in chosen.values()]
    scales = [hint.scale for hint in chosen.values()]
    if len(chosen) < len(rows.latents):
        index = torch.tensor(tuple(chosen), device=rows.latents.device)
        rows = ModelInput(latents=rows.latents[index], timesteps=rows.timesteps[index])
        conditioning = Conditioning(
            prompt_embeds=conditioning.prompt_embeds[index],
            pooled_prompt_embeds=_select(conditioning.pooled_prompt_embeds, index),
            time_ids=_select(conditioning.time_ids, index),
        )
    return controlnet.compute_residuals(
        rows.latents,
        rows.timesteps,
        conditioning,
        maps=torch.cat(maps) if len(maps) > 1 else maps[0],
        scales=scales,
    )


def _select(rows: torch.Tensor | None, index: torch.Tensor) -> torch.Tensor | None:
    return None if rows is None else rows[index]


def _add(
    total: Residuals | None, made: Residuals, chosen: tuple[int, ...], count: int
) -> Residuals:
    """`total` and what was made for the chosen ones of `count` rows."""
    if len(chosen) == count:
        if total is None:
            return made
        return Residuals(
            down=tuple(old + new for old, new in zip(total.down, made.down, strict=True)),
            mid=total.mid + made.mid,
        )
    index = torch.tensor(chosen, device=made.mid.device)
    before = (None,) * len(made.down) if total is None else total.down
    return Residuals(
        down=tuple(
            _scatter(old, new, index, count) for old, new in zip(before, made.down, strict=True)
        ),
        mid=_scatter(None if total is None else total.mid, made.mid, index, count),
    )


def _scatter(
    total: torch.Tensor | None, part: torch.Tensor, index: torch.Tensor, count: int
) -> torch.Tensor:
    if total is None:
        return part.new_zeros((count, *part.shape[1:])).index_copy(0, index, part)
    return total.index_copy(0, index, total[index] + part)
