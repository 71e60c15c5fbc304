"""Sends batches of mutated requests from several threads, and counts the answers."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.conftest import RunningServer, launch
from tests.server.fuzzing import (
    ENGINES,
    METHODS,
    Target,
    any_attachment,
    any_bytes,
    any_message,
    any_upload,
    good_gone_bad,
)

_DRAWN = 50  # requests of a batch that are made field by field
_MUTANTS = 19  # of each of them, with other bytes
_THREADS = 8
_WARM_MESSAGES = 20_000  # after which the server has what it needs
_MAX_GROWTH_BYTES = 256 * 2**20
_Strategy = st.SearchStrategy[list[bytes]]

SUBJECTS: Sequence[tuple[str, Callable[[], _Strategy]]] = (
    *((method, lambda method=method: any_message(method)) for method in METHODS),
    *((method, lambda method=method: good_gone_bad(method)) for method in METHODS),
    *((method, lambda method=method: any_bytes(method)) for method in METHODS),
    ("UploadArtifact", any_upload),
    ("Generate", any_attachment),
)
"""What batches send, in turns: the method, and how its requests are made."""


class BrokenPromiseError(Exception):
    """The server did what it must not do; the text says with which request."""


@dataclass(slots=True)
class Report:
    """What was sent, and what came back."""

    messages: int = 0
    """Calls; each has one mutated message, an upload several."""
    codes: Counter[str] = field(default_factory=Counter)
    growth_bytes: int = 0
    """Of the server's memory, since it was warm."""

    def lines(self) -> list[str]:
        """For people."""
        codes = ", ".join(f"{code} {count}" for code, count in self.codes.most_common())
        return [f"{self.messages} messages: {codes}", f"memory: +{self.growth_bytes >> 20} MiB"]


def fuzz(messages: int, base_seed: int, directory: Path, tell: Callable[[str], None]) -> Report:
    """Send so many messages to a server of its own; the same seed sends the same.

    Raises:
        BrokenPromiseError: an answer was not clear, the server died, logged an error, or grew.
    """
    server = launch(
        directory, engines=ENGINES, log={"level": "error"}, store={"retention_seconds": 30}
    )
    try:
        with grpc.insecure_channel(server.address) as channel:
            report = _send_batches(Target(server, channel), server, messages, base_seed, tell)
        if lines := server.log_lines():
            raise BrokenPromiseError(f"the server logged {lines[0]}")
        if status := server.terminate():
            raise BrokenPromiseError(f"the server stopped with status {status}")
        return report
    finally:
        server.kill()


def _send_batches(
    target: Target,
    server: RunningServer,
    messages: int,
    base_seed: int,
    tell: Callable[[str], None],
) -> Report:
    report, number, warm_bytes, told = Report(), 0, 0, time.monotonic()
    with ThreadPoolExecutor(_THREADS) as threads:
        while report.messages < messages:
            method, make = SUBJECTS[number % len(SUBJECTS)]
            batch = make_batch(make(), base_seed * 1_000_003 + number)
            number += 1
            sent = batch[: messages - report.messages]
            for code in threads.map(lambda requests: _send(target, method, requests), sent):  # noqa: B023 (the batch ends before the next)
                report.codes[code] += 1
            report.messages += len(sent)
            target.repair()
            if not target.healthy():
                raise BrokenPromiseError(f"after batch {number} the server is not healthy")
            if report.messages >= _WARM_MESSAGES:
                warm_bytes = warm_bytes or _memory(server)
                report.growth_bytes = _memory(server) - warm_bytes
            if report.growth_bytes > _MAX_GROWTH_BYTES:
                raise BrokenPromiseError(f"after batch {number}: {report.lines()[-1]}")
            if time.monotonic() - told > 60:
                told = time.monotonic()
                tell(f"{report.messages} messages")
    return report


def make_batch(strategy: _Strategy, batch_seed: int) -> list[list[bytes]]:
    """The requests of a batch; equal for an equal seed."""
    drawn: list[list[bytes]] = []

    @seed(batch_seed)
    @settings(
        max_examples=_DRAWN,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(requests: list[bytes]) -> None:
        drawn.append(requests)

    draw()
    chance = random.Random(batch_seed)
    return [
        *drawn,
        *([mutate(one, chance) for one in requests] for requests in drawn for _ in range(_MUTANTS)),
    ]


def mutate(data: bytes, chance: random.Random) -> bytes:
    """The bytes with one to four places changed, taken out, repeated or put in."""
    mutant = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(0, len(mutant))
        size = chance.choice((0, 1, 1, 2, 8))
        mutant[place : place + size] = chance.choice(
            (b"", chance.randbytes(1), chance.randbytes(3), b"\xff" * 9, bytes(mutant[:place][-8:]))
        )
    return bytes(mutant)


def _send(target: Target, method: str, requests: Sequence[bytes]) -> str:
    try:
        return target.send(method, requests).name
    except AssertionError as error:
        sent = " ".join(one.hex() for one in requests)
        raise BrokenPromiseError(f"{method} {sent}: {error}") from error


def _memory(server: RunningServer) -> int:
    """Bytes of the server that are in memory."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * 4096
