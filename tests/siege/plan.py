"""What is asked of the server: the same seed plans the same generations."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.task_pb2 import ImageTask

SKETCH, LARGE, PAID = "sketch", "large", "paid"
"""Engines: quick images, images that fill a disk, and images that cost money at a remote service."""
SIDE = 256
"""Width and height of every image in pixels; the remote service makes none that are smaller."""
DUPLICATES = 50
"""Simultaneous calls with one request id."""


class Kind(Enum):
    """How callers ask for a generation."""

    SUBMIT = "accepted, and left alone"
    GENERATE = "waited for"
    STREAM = "streamed"
    RETRIED = "waited for without a request id, under a retry policy of gRPC"
    HANG_UP = "waited for by callers that hang up and call again"
    ABANDON = "waited for by callers that hang up for good"
    HANG_UP_ACCEPTED = "accepted to run on its own, then waited for by callers that hang up"
    CANCEL = "accepted, then cancelled on purpose"
    DUPLICATES = "asked for by 50 simultaneous calls with one request id"
    FAIL = "told to fail"
    TIME_OUT = "given too little time"


_SHARES: Mapping[Kind, int] = {
    Kind.SUBMIT: 20,
    Kind.GENERATE: 16,
    Kind.RETRIED: 8,
    Kind.STREAM: 16,
    Kind.HANG_UP: 12,
    Kind.ABANDON: 6,
    Kind.HANG_UP_ACCEPTED: 6,
    Kind.CANCEL: 8,
    Kind.FAIL: 3,
    Kind.TIME_OUT: 3,
}
_ENGINES: Mapping[str, int] = {SKETCH: 70, LARGE: 14, PAID: 16}
_GENERATIONS_PER_BURST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One generation that callers ask for."""

    request_id: str
    """Also the prompt, by which generations are known that callers gave no id."""
    kind: Kind
    engine: str
    images: int
    seed: int
    """Seed of the first image."""
    seconds: float
    """How long the engine takes; without meaning at the remote service."""
    timeout_seconds: float | None = None

    @property
    def on_acceptance(self) -> bool:
        """Whether it is accepted to run without its callers."""
        return self.kind in {
            Kind.SUBMIT,
            Kind.HANG_UP_ACCEPTED,
            Kind.CANCEL,
            Kind.FAIL,
            Kind.TIME_OUT,
        }

    @property
    def options(self) -> dict[str, float | bool]:
        """Options of the engine."""
        if self.engine == PAID:
            return {}
        return {"delay_seconds": self.seconds, "fail": self.kind is Kind.FAIL}

    def message(self, *, on_acceptance: bool | None = None) -> pb.GenerateRequest:
        """The request; by its prompt the orders at the remote service are counted."""
        asked = self.on_acceptance if on_acceptance is None else on_acceptance
        request = pb.GenerateRequest(
            request_id="" if self.kind is Kind.RETRIED else self.request_id,
            engine=self.engine,
            image=ImageTask(
                prompt=self.request_id,
                width=SIDE,
                height=SIDE,
                steps=4,
                seed=self.seed,
                num_images=self.images,
            ),
            response_mode=pb.RESPONSE_MODE_ON_ACCEPTANCE
            if asked
            else pb.RESPONSE_MODE_ON_COMPLETION,
        )
        request.options.update(self.options)
        if self.timeout_seconds is not None:
            request.timeout.FromMicroseconds(int(self.timeout_seconds * 1e6))
        return request


def plan(generations: int, seed: int) -> tuple[Planned, ...]:
    """So many generations; one in a hundred is asked for by 50 calls at once."""
    chance = random.Random(seed)
    return tuple(
        _plan_one(f"siege-{seed}-{number}", _choose_kind(number, chance), chance)
        for number in range(generations)
    )


def _choose_kind(number: int, chance: random.Random) -> Kind:
    if number % _GENERATIONS_PER_BURST == _GENERATIONS_PER_BURST // 4:
        return Kind.DUPLICATES
    return chance.choices(list(_SHARES), list(_SHARES.values()))[0]


def _plan_one(request_id: str, kind: Kind, chance: random.Random) -> Planned:
    engine = chance.choices(list(_ENGINES), list(_ENGINES.values()))[0]
    if kind in {Kind.FAIL, Kind.TIME_OUT}:
        engine = SKETCH
    timeout = chance.uniform(0.5, 2.0) if kind is Kind.TIME_OUT else None
    return Planned(
        request_id=request_id,
        kind=kind,
        engine=engine,
        images=chance.choice((1, 1, 1, 2)),
        seed=chance.randrange(1, 2**31),
        seconds=60.0 if timeout else chance.choice((0.0, 0.1, 0.3, 1.0, 3.0)),
        timeout_seconds=timeout,
    )
