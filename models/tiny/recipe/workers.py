"""Training in step on several single-thread processes.

On a shared machine, processes of one thread each keep their pace where one process of several
threads waits for its slowest. All parameters live in one vector, so that a step costs one
all-reduce, one optimiser call and one call for the running mean.
"""

import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long to train and how fast."""

    steps: int
    rate: float
    """Highest learning rate; it rises over the warm-up and falls on a cosine to 2 % of it."""
    warm_up: int
    floor: float = 0.02

    def at(self, step: int) -> float:
        """The learning rate of this step."""
        rise = min(1.0, (step + 1) / self.warm_up)
        fall = 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / self.steps))
        return self.rate * rise * (self.floor + (1 - self.floor) * fall)


class Trainer:
    """The parameters of some networks as one vector, trained with AdamW and averaged."""

    def __init__(self, networks: Sequence[nn.Module], *, mean_decay: float) -> None:
        self._parameters = [p for n in networks for p in n.parameters() if p.requires_grad]
        self._flat = torch.cat([p.detach().reshape(-1) for p in self._parameters])
        if dist.is_initialized():
            dist.broadcast(self._flat, 0)
        self._gradient = torch.zeros_like(self._flat)
        self._point(self._flat)
        for parameter, view in zip(self._parameters, self._views(self._gradient), strict=True):
            parameter.grad = view
        self._flat.grad = self._gradient
        self._optimiser = torch.optim.AdamW(
            [self._flat], betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )
        self._mean = self._flat.clone()
        self._mean_decay = mean_decay
        self.step = 0

    def update(self, loss: torch.Tensor, rate: float) -> None:
        """Learn from this worker's loss and everyone else's; one step for all."""
        self._gradient.zero_()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        if dist.is_initialized():
            dist.all_reduce(self._gradient)
            self._gradient /= dist.get_world_size()
        norm = self._gradient.norm()
        self._gradient *= torch.clamp(1.0 / (norm + 1e-6), max=1.0)
        self._optimiser.param_groups[0]["lr"] = rate
        self._optimiser.step()
        self.step += 1
        keep = min(self._mean_decay, self.step / (self.step + 10))
        self._mean.lerp_(self._flat, 1 - keep)

    def use_mean(self) -> None:
        """Put the running mean into the networks, for export; training must not go on after."""
        self._point(self._mean)

    def state(self) -> dict[str, object]:
        """What ``restore`` needs to go on."""
        return {
            "step": self.step,
            "flat": self._flat,
            "mean": self._mean,
            "optimiser": self._optimiser.state_dict(),
        }

    def restore(self, path: Path, *, keep_step: bool = True) -> None:
        """Go on from a checkpoint; without ``keep_step`` the schedule starts again."""
        state = torch.load(path, weights_only=True)
        self._flat.copy_(state["flat"])
        self._mean.copy_(state["mean"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"] if keep_step else 0

    def _point(self, vector: torch.Tensor) -> None:
        for parameter, view in zip(self._parameters, self._views(vector), strict=True):
            parameter.data = view

    def _views(self, vector: torch.Tensor) -> list[torch.Tensor]:
        pieces = vector.split([p.numel() for p in self._parameters])
        return [v.view(p.shape) for v, p in zip(pieces, self._parameters, strict=True)]


class Log:
    """Lines of JSON about the loss and the pace, from the first worker only."""

    def __init__(self, path: Path, *, every: int) -> None:
        self._path, self._every = path, every
        self._started, self._sum, self._count = time.monotonic(), 0.0, 0

    def add(self, step: int, loss: float, batch: int) -> None:
        """Note one step; every ``every`` steps a line is written."""
        self._sum, self._count = self._sum + loss, self._count + 1
        if step % self._every or rank():
            return
        seconds = time.monotonic() - self._started
        line = {
            "step": step,
            "loss": round(self._sum / self._count, 5),
            "images_per_second": round(batch * self._count / seconds, 1),
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        self._started, self._sum, self._count = time.monotonic(), 0.0, 0


def rank() -> int:
    """This worker's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many workers there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def generator(seed: int, step: int) -> torch.Generator:
    """The random numbers of this worker at this step: the same in a resumed run."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) * 64 + rank())


def save(path: Path, trainer: Trainer) -> None:
    """Write a checkpoint so that a crash leaves the last one whole; the first worker only."""
    if rank():
        return
    partial = path.with_suffix(".part")
    torch.save(trainer.state(), partial)
    partial.replace(path)


def run(
    trainer: Trainer,
    schedule: Schedule,
    loss_at: Callable[[int], torch.Tensor],
    checkpoint: Path,
    *,
    images: int,
    every: int,
) -> None:
    """Train to the schedule's end on this worker's losses by step, of so many images each.

    A checkpoint is written every so many steps and at the end, and a log beside it.
    """
    log = Log(checkpoint.with_suffix(".jsonl"), every=50)
    while trainer.step < schedule.steps:
        loss = loss_at(trainer.step)
        trainer.update(loss, schedule.at(trainer.step))
        log.add(trainer.step, loss.item(), images * world())
        if trainer.step % every == 0 or trainer.step == schedule.steps:
            save(checkpoint, trainer)


def launch(train: Callable[..., None], count: int, *arguments: object) -> None:
    """Run ``train(*arguments)`` on ``count`` processes of one thread each, in step."""
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = f"file://{folder}/meet"
        torch.multiprocessing.spawn(  # type: ignore[attr-defined, no-untyped-call]  # torch's types lack it
            _worker, (train, count, rendezvous, arguments), nprocs=count
        )


def _worker(
    index: int,
    train: Callable[..., None],
    count: int,
    rendezvous: str,
    arguments: tuple[object, ...],
) -> None:
    torch.set_num_threads(1)
    if count > 1:
        dist.init_process_group("gloo", init_method=rendezvous, rank=index, world_size=count)
    train(*arguments)
    if count > 1:
        dist.destroy_process_group()
