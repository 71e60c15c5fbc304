"""Runs several tasks with a bounded number at the server at once; no I/O, see `actions`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias

from atelier_client.actions import Operation
from atelier_client.errors import (
    AtelierError,
    BatchError,
    ClientClosedError,
    ServerUnreachableError,
    UnavailableError,
)
from atelier_client.input_media import InputMedia
from atelier_client.operations import StartedStream
from atelier_client.reconnect import ReconnectPolicy
from atelier_client.requests import Request
from atelier_client.results import Generation

_MAX_RUNNING = 8
"""Tasks that wait or run at the server at the same time."""
_Outcome: TypeAlias = Generation | AtelierError


@dataclass(slots=True, kw_only=True)
class StartedBatch:
    """Tasks that are run to their ends in order, and cancelled if the caller stops before."""

    requests: tuple[Request, ...]
    policy: ReconnectPolicy
    media: InputMedia
    _running: deque[tuple[int, StartedStream]] = field(default_factory=deque, init=False)
    _outcomes: dict[int, _Outcome] = field(default_factory=dict, init=False)

    def result(self) -> Operation[tuple[Generation, ...]]:
        """Run every task, whether others fail or not, and return the generations in order.

        Raises:
            BatchError: a task failed; it has the outcomes of all.
            ClientClosedError: the client was closed meanwhile.
        """
        for index, request in enumerate(self.requests):
            if len(self._running) == _MAX_RUNNING:
                yield from self._finish_oldest()
            yield from self._start(index, request)
        while self._running:
            yield from self._finish_oldest()
        outcomes = tuple(self._outcomes[index] for index in range(len(self.requests)))
        made = tuple(outcome for outcome in outcomes if isinstance(outcome, Generation))
        if len(made) < len(outcomes):
            raise BatchError(_describe(outcomes), results=outcomes)
        return made

    def leave(self) -> Operation[None]:
        """Cancel every generation that has not ended."""
        for _, started in self._running:
            yield from started.leave()

    def _start(self, index: int, request: Request) -> Operation[None]:
        """Start a task; if the queue is full, after tasks of this batch have left it."""
        started = StartedStream(request=request, policy=self.policy, media=self.media)
        while True:
            try:
                yield from started.start()
            except UnavailableError as error:
                if isinstance(error, ServerUnreachableError) or not self._running:
                    self._outcomes[index] = error
                    return
                yield from self._finish_oldest()
            except ClientClosedError:
                raise
            except AtelierError as error:
                self._outcomes[index] = error
                return
            else:
                self._running.append((index, started))
                return

    def _finish_oldest(self) -> Operation[None]:
        index, started = self._running[0]
        try:
            self._outcomes[index] = yield from started.result()
        except ClientClosedError:
            raise
        except AtelierError as error:
            self._outcomes[index] = error
        self._running.popleft()


def _describe(outcomes: tuple[_Outcome, ...]) -> str:
    failed = [
        (index, error) for index, error in enumerate(outcomes) if isinstance(error, AtelierError)
    ]
    index, first = failed[0]
    return f"{len(failed)} of {len(outcomes)} tasks failed; task {index}: {first}"
