"""Which pictures share a run of the denoiser, and how a shared run is made of their rows."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from atelier_engines.diffusion.controls.residuals import Hint
from atelier_engines.diffusion.denoising import Rows
from atelier_engines.diffusion.limiting import RowLimit
from atelier_engines.diffusion.runtimes.base import Conditioning, Runtime
from atelier_engines.task import Lora


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one picture asks of the denoiser next."""

    runtime: Runtime
    """Runs it."""
    rows: Rows
    """Latents and time steps."""
    conditioning: Conditioning
    """A row for each row of latents."""
    loras: tuple[Lora, ...] = ()
    """Active in the denoiser while it runs."""
    hints: tuple[Hint, ...] = ()
    """What all its rows are to follow."""

    @property
    def key(self) -> Hashable:
        """Runs of the same key may share one: same shapes, same weights."""
        shapes = (self.rows.latents.shape[1:], self.conditioning.hidden.shape[1:])
        return (id(self.runtime), *shapes, self.loras)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in latent cells."""
        height, width = self.rows.latents.shape[-2:]
        return height, width

    def __len__(self) -> int:
        """Rows: two with guidance, else one."""
        return len(self.rows.latents)


class Waiting(Protocol):
    """A picture that waits for its run."""

    @property
    def run(self) -> Run:
        """What it asks for."""


WaitingT = TypeVar("WaitingT", bound=Waiting)


class Turns:
    """Takes turns between the pictures that cannot share a run, so that none waits for ever.

    The group whose last turn is the longest ago is next; in a group, whoever came first.
    """

    def __init__(self, limit: RowLimit) -> None:
        self._limit = limit
        self._last: dict[Hashable, int] = {}
        self._turn = 0

    def next(self, waiting: Sequence[WaitingT]) -> list[WaitingT]:
        """Those of `waiting`, in order of arrival, that share the next run; at least one of them."""
        groups: dict[Hashable, list[WaitingT]] = {}
        for picture in waiting:
            groups.setdefault(picture.run.key, []).append(picture)
        self._last = {key: turn for key, turn in self._last.items() if key in groups}
        key = min(groups, key=lambda group: self._last.get(group, -1))
        self._turn += 1
        self._last[key] = self._turn
        return self._fitting(groups[key])

    def _fitting(self, group: Sequence[WaitingT]) -> list[WaitingT]:
        limit = self._limit(*group[0].run.size)
        chosen, rows = [group[0]], len(group[0].run)
        for picture in group[1:]:
            if rows + len(picture.run) > limit:
                break
            chosen.append(picture)
            rows += len(picture.run)
        return chosen


def joined(runs: Sequence[Run]) -> tuple[Rows, Conditioning]:
    """The rows of all runs, one after the other; those of a single run as they are."""
    if len(runs) == 1:
        return runs[0].rows, runs[0].conditioning
    rows = Rows(
        latents=torch.cat([run.rows.latents for run in runs]),
        timesteps=torch.cat([run.rows.timesteps for run in runs]),
    )
    conditioning = Conditioning(
        hidden=torch.cat([run.conditioning.hidden for run in runs]),
        pooled=_joined([run.conditioning.pooled for run in runs]),
        time_ids=_joined([run.conditioning.time_ids for run in runs]),
    )
    return rows, conditioning


def _joined(parts: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None


def parted(prediction: torch.Tensor, runs: Sequence[Run]) -> tuple[torch.Tensor, ...]:
    """What the denoiser made of `joined(runs)`, a piece for each run."""
    parts: tuple[torch.Tensor, ...] = torch.split(prediction, [len(run) for run in runs])
    return parts
