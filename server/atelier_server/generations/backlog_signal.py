"""How many seconds of work each engine has, in all servers that share a store: by this their number is chosen."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping

from atelier_server.errors import StorageError
from atelier_server.estimates.work_seconds import estimate_seconds, measure_rates
from atelier_server.metrics import SHARED_BACKLOG_SECONDS
from atelier_server.store.work_protocol import WorkStore

_log = logging.getLogger(__name__)
_MAX_AGE_SECONDS = 1.0
_RATES_MAX_AGE_SECONDS = 15.0
_MAX_ENDED = 300  # whose times say how long the rest takes
_EXPORT_SECONDS = 5.0


class BacklogSignal:
    """Reads the work from the store, at most once a second however many ask."""

    def __init__(self, store: WorkStore) -> None:
        """Read when somebody asks."""
        self._store = store
        self._reading = asyncio.Lock()
        self._seconds: Mapping[str, float] = {}
        self._rates: Mapping[str, float] = {}
        self._read_at = self._rated_at = float("-inf")

    async def measure(self) -> Mapping[str, float]:
        """Seconds that one slot of each engine takes for its work, by engine; without work it may be left out.

        Raises:
            StorageError: the store can't be read.
        """
        async with self._reading:
            if time.monotonic() - self._read_at > _MAX_AGE_SECONDS:
                work = await self._store.list_work()
                if self._are_rates_old() or not work.keys() <= self._rates.keys():
                    self._rates = measure_rates(await self._store.list_newest_succeeded(_MAX_ENDED))
                    self._rated_at = time.monotonic()
                self._seconds = estimate_seconds(work, self._rates)
                self._read_at = time.monotonic()
        return self._seconds

    def _are_rates_old(self) -> bool:
        return time.monotonic() - self._rated_at > _RATES_MAX_AGE_SECONDS

    async def export_periodically(self, engines: Iterable[str]) -> None:
        """Show the seconds of these engines, and of all that have work, while this server speaks for all of them."""
        shown = set(engines)
        failing = False
        while True:
            try:
                seconds = await self.measure() if await self._store.speaks_for_all() else None
            except StorageError as error:
                seconds = None
                if not failing:
                    _log.warning("backlog_unknown", extra={"error": str(error)})
            failing = seconds is None
            shown |= (seconds or {}).keys()
            for engine in shown:
                _show(engine, None if seconds is None else seconds.get(engine, 0.0))
            await asyncio.sleep(_EXPORT_SECONDS)


def _show(engine: str, seconds: float | None) -> None:
    if seconds is not None:
        SHARED_BACKLOG_SECONDS.labels(engine).set(seconds)
    else:
        with contextlib.suppress(KeyError):  # it was not shown
            SHARED_BACKLOG_SECONDS.remove(engine)
