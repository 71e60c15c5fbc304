"""Wraps an audio engine: returns a clip that was made before where that will do, see `ReuseConfig`."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from atelier_engines.capabilities import Capabilities
from atelier_engines.engine import Engine
from atelier_engines.event import Event, Output, Reused, Stage
from atelier_engines.media import Samples
from atelier_engines.reuse import spectra, wording
from atelier_engines.reuse.config import CapStrategy, ReuseConfig
from atelier_engines.reuse.variants import Match, Variant, VariantStore, Vector
from atelier_engines.task import AudioTask, Task
from atelier_engines.threads import result_from_thread
from atelier_engines.wrappers.caching import cache_tenant
from atelier_engines.wrappers.task_digest import digest

_log = logging.getLogger(__name__)
_MAX_WAITING = 16
"""Most tasks whose prompts wait for clips to be made in the background; the oldest are forgotten."""


class Embedder(Protocol):
    """Compares texts. For one thread at a time."""

    def embed(self, text: str) -> Vector | None:
        """The vector of a text, of length 1; None if it is too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the clips of a task are kept."""

    group: bytes
    embedding: Vector | None


class ReusingEngine:
    """Returns kept clips for tasks with `reuse`, and makes new ones while there are too few. See Engine.

    A clip serves tasks of the same or a similar prompt that are equal in everything else but the seed. Clips are in
    memory; `start` and `stop` forget them, since weights may be replaced.
    """

    def __init__(
        self, inner: Engine, config: ReuseConfig, load_embedder: Callable[[], Embedder]
    ) -> None:
        """Create the engine without loading anything.

        Args:
            inner: makes the clips.
            config: its settings.
            load_embedder: loads what compares prompts, on a thread, if `use_bge` is on; raises as `start`, or
                ImportError.
        """
        self.inner = inner
        self._config = config
        self._load_embedder = load_embedder
        self._embedder: Embedder | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._store = VariantStore(
            max_bytes=config.max_bytes,
            max_per_prompt=config.max_per_prompt,
            choose=partial(_choose, config.cap_strategy),
        )
        self._running = 0
        self._waiting: deque[tuple[AudioTask, _Place]] = deque(maxlen=_MAX_WAITING)
        self._prefetch: asyncio.Task[None] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self.inner.capabilities

    async def start(self) -> None:
        """See Engine.start. Also loads the sentence embedding.

        Raises:
            ModelMissingError: it is absent or broken.
        """
        self._store.clear()
        await self.inner.start()
        if self._thread is not None:
            return
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="atelier-reuse")
        try:
            if self._config.use_bge:
                self._embedder = await result_from_thread(
                    self._load_embedder, executor=self._thread
                )
        except BaseException:
            await self.stop()
            raise

    async def check(self) -> None:
        """See Engine.check."""
        await self.inner.check()

    async def stop(self) -> None:
        """See Engine.stop."""
        self._waiting.clear()
        await self._stop_prefetch()
        self._store.clear()
        self._embedder = None
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None
        await self.inner.stop()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. A kept clip is yielded after the stage `reuse`, as a `cached` output that says of what."""
        self._running += 1
        try:
            await self._stop_prefetch()
            run = (
                self._reuse(task)
                if isinstance(task, AudioTask) and task.reuse
                else self.inner.run(task)
            )
            async with aclosing(run) as events:
                async for event in events:
                    yield event
        finally:
            self._running -= 1
            self._start_prefetch()

    async def wait_idle(self) -> None:
        """Return when nothing is made in the background, for diagnostics and tests; no task is running."""
        if self._prefetch is not None:
            await asyncio.wait([self._prefetch])

    async def _reuse(self, task: AudioTask) -> AsyncGenerator[Event]:
        place = await self._find_place(task)
        matches = self._find(task, place)
        if len(matches) >= self._config.target_per_prompt:
            match = _draw(matches, self._config.temperature, random.Random(task.seed))  # noqa: S311 (no secret)
            self._store.use(match.variant)
            yield Stage(name="reuse")
            yield _to_output(match)
        else:
            async with aclosing(self._make(task, place)) as events:
                async for event in events:
                    yield event
            if self._config.prefetch_in_background:
                self._waiting.append((task, place))

    async def _make(self, task: AudioTask, place: _Place) -> AsyncGenerator[Event]:
        """Make a clip and keep it, if the task completes."""
        made: Output | None = None
        async with aclosing(self.inner.run(task)) as events:
            async for event in events:
                if isinstance(event, Output):
                    made = event
                yield event
        if made is not None and isinstance(made.media, Samples) and not made.flagged:
            keep = partial(_keep, task, place, made, made.media)
            self._store.add(await result_from_thread(keep, executor=self._thread))

    def _find(self, task: AudioTask, place: _Place) -> list[Match]:
        return self._store.find(
            place.group,
            task.prompt,
            place.embedding,
            threshold=self._config.tau_prompt_sem,
            most=self._config.reuse_k,
        )

    async def _find_place(self, task: AudioTask) -> _Place:
        tenant = b"" if self._config.share else cache_tenant().encode()
        rest = replace(task, prompt="", seed=0)
        group = digest(rest, self.capabilities, "reuse") + tenant
        embedding = None
        if self._embedder is not None and wording.read(task.prompt).comparable:
            work = partial(self._embedder.embed, task.prompt)
            embedding = await result_from_thread(work, executor=self._thread)
        return _Place(group=group, embedding=embedding)

    def _start_prefetch(self) -> None:
        if self._waiting and not self._running and self._prefetch is None:
            self._prefetch = asyncio.create_task(self._make_missing())

    async def _stop_prefetch(self) -> None:
        """Stop what is made in the background, within a step of the model; it is begun again later."""
        if (prefetch := self._prefetch) is not None:
            self._prefetch = None
            prefetch.cancel()
            await asyncio.wait([prefetch])

    async def _make_missing(self) -> None:
        """Make the clips that are missing, one at a time, for the latest task first."""
        while self._waiting:
            task, place = self._waiting[-1]
            try:
                await self._fill(task, place)
            except Exception:  # noqa: BLE001 (whatever it is: no caller waits for it)
                _log.exception("prefetch_failed")
            self._waiting.pop()
        self._prefetch = None

    async def _fill(self, task: AudioTask, place: _Place) -> None:
        for seed in _list_seeds(task, self._config.max_new_when_prefetch):
            matches = self._find(task, place)
            if len(matches) >= self._config.target_per_prompt:
                return
            if seed in {match.variant.seed for match in matches}:
                continue  # made before a task stopped this
            async with aclosing(self._make(replace(task, seed=seed), place)) as events:
                async for _ in events:
                    pass
            _log.info("clip_prefetched", extra={"seed": seed})


def _list_seeds(task: AudioTask, number: int) -> Sequence[int]:
    """Seeds for further clips of a task, always the same."""
    source = random.Random(task.seed)  # noqa: S311 (no secret)
    return [source.getrandbits(63) for _ in range(number)]


def _draw(matches: Sequence[Match], temperature: float, source: random.Random) -> Match:
    """One of the clips; each is as probable as the softmax of its similarity says."""
    best = matches[0].similarity
    weights = [math.exp((match.similarity - best) / temperature) for match in matches]
    return source.choices(matches, weights)[0]


def _to_output(match: Match) -> Output:
    kept = match.variant
    return Output(
        media=kept.media,
        seed=kept.seed,
        cached=True,
        reused=Reused(prompt=kept.prompt, similarity=match.similarity),
        notes=kept.notes,
    )


def _keep(task: AudioTask, place: _Place, made: Output, media: Samples) -> Variant:
    array = media.array if media.array.base is None else media.array.copy()
    return Variant(
        group=place.group,
        prompt=task.prompt,
        embedding=place.embedding,
        seed=made.seed,
        media=replace(media, array=array),
        spectrum=spectra.describe(media),
        score=made.score,
        notes=made.notes,
    )


def _choose(strategy: CapStrategy, variants: Sequence[Variant]) -> int:
    match strategy:
        case "oldest":
            return 0
        case "quality":
            scores = [-math.inf if one.score is None else one.score for one in variants]
            return scores.index(min(scores))
        case "diversity":
            return spectra.choose_most_alike([variant.spectrum for variant in variants])
