"""Tasks go from the call to the worker in memory, if they are what the store has."""

from __future__ import annotations

from atelier_engines.capabilities import Capabilities
from atelier_engines.task import ImageTask
from atelier_server.engines.decided_tasks import DecidedTasks
from atelier_server.engines.task_codec import encode_task

TASK = ImageTask(prompt="a lamp", width=64, height=64, seeds=(1,))
ENCODED = encode_task(TASK)
CAPABILITIES = Capabilities(description="")


def test_a_task_is_taken_once_and_only_as_it_is_stored() -> None:
    """Of another encoding, or checked against other capabilities, it has to be decoded and checked again."""
    decided = DecidedTasks()
    for generation_id in ("same", "moved", "restarted"):
        decided.add(generation_id, ENCODED, TASK, CAPABILITIES)
    assert decided.take("same", bytes(bytearray(ENCODED)), CAPABILITIES) is TASK
    assert decided.take("same", ENCODED, CAPABILITIES) is None
    assert decided.take("moved", ENCODED.replace(b"lamp", b"lark"), CAPABILITIES) is None
    assert decided.take("restarted", ENCODED, Capabilities(description="")) is None


def test_tasks_that_wait_long_are_dropped() -> None:
    """However long a queue grows, only the newest are in memory."""
    decided = DecidedTasks()
    for number in range(1000):
        decided.add(str(number), ENCODED, TASK, CAPABILITIES)
    held = [number for number in range(1000) if decided.take(str(number), ENCODED, CAPABILITIES)]
    assert held == list(range(1000 - len(held), 1000))
    assert 0 < len(held) < 100
