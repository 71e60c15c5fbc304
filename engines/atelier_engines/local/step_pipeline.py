"""What a loaded model needs for the step scheduler, and what can be done with any of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import torch

from atelier_engines.errors import EngineFailedError
from atelier_engines.local import errors
from atelier_engines.local.components import EngineComponents
from atelier_engines.local.step_scheduler import StepCoroutine
from atelier_engines.threads import Emit

TaskT = TypeVar("TaskT")
TaskT_contra = TypeVar("TaskT_contra", contravariant=True)


class StepPipeline(Protocol[TaskT_contra]):
    """A loaded model, ready for tasks of one kind. For one thread at a time."""

    @property
    def components(self) -> EngineComponents:
        """Its components in the model cache."""

    def start(self, task: TaskT_contra, emit: Emit) -> Sequence[StepCoroutine[Any, Any]]:
        """The coroutines of a task; they do nothing before their first step."""

    def predict(self, requests: Sequence[Any]) -> Sequence[Any]:
        """Run the model once for requests of one key, and return the prediction for each."""


def run_alone(pipeline: StepPipeline[TaskT], task: TaskT, emit: Emit) -> None:
    """Run a task on the calling thread, its outputs one after the other.

    Raises:
        EngineError: see `start` of the pipeline.
    """
    with torch.inference_mode():
        for coroutine in pipeline.start(task, emit):
            request = next(coroutine, None)
            with suppress(StopIteration):
                while True:
                    made = None if request is None else pipeline.predict([request])[0]
                    request = coroutine.send(made)


def self_test(device: torch.device) -> None:
    """Return if the device computes correctly.

    Raises:
        EngineFailedError: it does not.
    """
    with errors.translate_inference("the self-test", device):
        if torch.ones(8, device=device).sum().item() != 8:  # noqa: PLR2004 (the number of ones above)
            raise EngineFailedError(f"{device} failed its self-test: wrong result of a sum")
