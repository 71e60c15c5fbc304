"""How much of an engine a task takes, in one unit for all engines: tenants share a queue by it, and quotas count it.

An image costs one unit for each million pixels of each step: 1024 x 1024 in 30 steps are 31.5. Audio costs one unit for
each second of each step. Pure: no clock, no measurement, so the same task costs the same everywhere and always.
"""

from __future__ import annotations

from atelier_engines.task import ImageTask, Task

_PIXELS = 1e6  # of one unit
_LEAST = 1e-3
"""Of a task whose amount is nothing that can be told, such as speech without a length: many of them are still some."""


def measure_amount(task: Task) -> float:
    """Pixels x steps x images, or seconds of audio x steps x candidates; 0 where the task does not tell."""
    if isinstance(task, ImageTask):
        amount = float(task.width * task.height * (task.steps or 1) * len(task.seeds))
        return amount if task.init_image is None else amount * task.strength
    amount = task.duration_seconds * (task.steps or 1) * task.candidates
    takes_all = task.init_audio is None or task.continuation
    return amount if takes_all else amount * task.strength


def count_cost_units(task: Task) -> float:
    """Cost units of a decided task; more than 0."""
    amount = measure_amount(task)
    return max(_LEAST, amount / _PIXELS if isinstance(task, ImageTask) else amount)
