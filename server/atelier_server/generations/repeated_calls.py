"""Finds what a call without request id has made already, when gRPC sends the call again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial

from atelier.v1.generation_pb2 import Generation
from atelier_server.generations.callers import Callers
from atelier_server.store.protocol import ENDED, SubmitResult, may_run_again

RETRY_WINDOW_SECONDS = 120.0
"""For so long after a generation has ended, a repeated call may ask for it. gRPC waits less between two attempts."""
_MAX_REQUESTS = 10_000


class RepeatedCalls:
    """Tells the calls that were rejected before from those whose generation is to be found."""

    def __init__(self) -> None:
        """Start without any call."""
        self._rejections: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        self._chosen: set[str] = set()

    def add_rejection(self, caller: str, digest: bytes) -> None:
        """Count the rejection of a request: it made no generation. Of more than 10,000 the oldest are forgotten."""
        key = (caller, digest)
        self._rejections[key] = self._rejections.pop(key, 0) + 1
        if len(self._rejections) > _MAX_REQUESTS:
            self._rejections.popitem(last=False)

    def take_rejection(self, caller: str, digest: bytes) -> bool:
        """Whether a rejection explains that the request comes again; each explains one."""
        key = (caller, digest)
        count = self._rejections.pop(key, 0)
        if count > 1:
            self._rejections[key] = count - 1
        return count > 0

    @contextmanager
    def choose(self, earlier: Sequence[SubmitResult], callers: Callers) -> Generator[str]:
        """The request id of the generation that a call has most probably made; empty if there is none.

        `earlier` are the generations of equal requests, newest first. Those whose call was lost come first, then those
        whose end no call has seen. While the context lasts, other calls choose others.
        """
        if not earlier:
            yield ""
            return
        chosen = min((result.generation for result in earlier), key=partial(self._rank, callers))
        self._chosen.add(chosen.id)
        try:
            yield chosen.request_id
        finally:
            self._chosen.discard(chosen.id)

    def _rank(self, callers: Callers, generation: Generation) -> int:
        if generation.id in self._chosen:
            return 3
        if may_run_again(generation):
            return 0
        if callers.is_attended(generation.id) or callers.is_answered(generation.id):
            return 2  # also one that has just ended, and whose call is being told
        return 1 if generation.state in ENDED else 0
