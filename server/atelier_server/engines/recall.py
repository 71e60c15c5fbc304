"""Restores what was known about times and queues before the process started, from the stored generations."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from atelier.v1.generation_pb2 import Generation
from atelier_engines.media import Pixels
from atelier_server.engines.supervisor import EngineSupervisor
from atelier_server.engines.task_codec import Inputs, UnreadableTaskError, decode_task
from atelier_server.estimates.backlog import Backlog
from atelier_server.estimates.service_times import Work, measure_service_time
from atelier_server.store.protocol import Store

_MAX_RECALLED = 500  # generations, the newest
BLANK_IMAGES: Inputs = defaultdict(lambda: Pixels(array=np.zeros((1, 1, 3), np.uint8)))
"""Stands for the images and the audio of a task, whose content its work and its price do not depend on."""


async def recall(store: Store, supervisors: Sequence[EngineSupervisor], backlog: Backlog) -> None:
    """Learn from the newest stored generations, and enter those that wait into the backlog, which follows the store."""
    by_name = {supervisor.name: supervisor for supervisor in supervisors}
    for generation, task in await store.list_succeeded_tasks(_MAX_RECALLED):
        supervisor = by_name.get(generation.engine)
        if supervisor is not None:
            _learn(supervisor, generation, _find_work(task))
    store.observe(backlog.follow, everywhere=True)
    for generation_id, engine, caller, batch, task in await store.list_waiting_tasks():
        backlog.add(generation_id, engine, _find_work(task), caller, batch=batch)


def _learn(supervisor: EngineSupervisor, generation: Generation, work: Work | None) -> None:
    seconds = measure_service_time(generation.receipt)
    if work is not None and seconds is not None:
        ended_ago = time.time() - generation.end_time.ToMicroseconds() / 1e6
        sharing = supervisor.status.capabilities.concurrency  # the record does not tell
        supervisor.learn(work, seconds, ended_ago=max(0.0, ended_ago), sharing=sharing)


def _find_work(task: bytes) -> Work | None:
    """The work of a stored task; None if it was not decided, or by another version."""
    try:
        return Work.of(decode_task(task, BLANK_IMAGES)) if task else None
    except UnreadableTaskError:
        return None
