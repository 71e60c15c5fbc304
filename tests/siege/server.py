"""The server process under siege, on an address and data of its own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import STOP_SECONDS, RunningServer, free_port, launch, wait_until_serving
from tests.siege.plan import LARGE, PAID, SKETCH
from tests.vendors.fal.stand_in import StandIn

PRICE = 0.01
"""US dollars for one image of the remote service."""
MAX_ATTEMPTS = 3
"""Attempts of one generation that may be lost to kills."""
OUTPUT_BYTES = 256 * 1024
"""Size of an image of the engine `large`."""
_MIN_FREE_BYTES = 2**20


def engines(service: StandIn) -> Mapping[str, Mapping[str, Any]]:
    """The engines of the server: two of its own, and one that pays for each image."""
    return {
        SKETCH: {"type": "sketch", "concurrency": 8},
        LARGE: {"type": "sketch", "concurrency": 4, "output_bytes": OUTPUT_BYTES},
        PAID: {
            "type": "fal",
            "base_url": service.queue,
            "api_key": service.api_key,
            "poll_seconds": 0.05,
            "concurrency": 4,
            "price": {"amount": PRICE, "unit": "image"},
        },
    }


@dataclass(slots=True, kw_only=True, eq=False)
class SiegedServer:
    """Starts and stops the process; everything in `directory` outlives it."""

    directory: Path
    service: StandIn
    address: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    _running: RunningServer | None = None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    @property
    def running(self) -> RunningServer:
        """The newest process."""
        assert self._running is not None, "start it first"
        return self._running

    def launch(self, *, drain_seconds: float = 1.0, grace_seconds: float = 0.5) -> None:
        """Start a process, and do not wait for it."""
        self._running = launch(
            self.directory,
            address=self.address,
            wait=False,
            engines=engines(self.service),
            drain_seconds=drain_seconds,
            store={"max_attempts": MAX_ATTEMPTS, "min_free_bytes": _MIN_FREE_BYTES},
            limits={"abandoned_grace_seconds": grace_seconds, "max_silence_seconds": 1.0},
        )

    async def wait_serving(self) -> None:
        """Wait until every engine works."""
        names = list(engines(self.service))
        await asyncio.to_thread(wait_until_serving, self.running, names)

    async def kill(self) -> None:
        """Kill the process."""
        await asyncio.to_thread(self.running.kill)

    def send(self, sent: signal.Signals) -> None:
        """Send a signal to the process."""
        self.running.process.send_signal(sent)

    async def wait_exit(self) -> int:
        """The exit status, once it has ended."""
        return await asyncio.to_thread(self.running.process.wait, STOP_SECONDS)
