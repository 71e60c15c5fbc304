"""Replicate's predictions: the responses that are used, and the jobs of one task."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from atelier_engines.closing import Stop
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
    JobStoppedError,
)
from atelier_engines.event import Output, Stage
from atelier_engines.task import JSON, count_steps_left
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors.jobs import JobState, JobStatus, TaskJobs
from atelier_engines.vendors.replicate.config import ReplicateConfig
from atelier_engines.vendors.replicate.errors import translate_failure
from atelier_engines.vendors.replicate.fields import FieldMap
from atelier_engines.vendors.replicate.files import send_images
from atelier_engines.vendors.replicate.model_schema import OutputForm
from atelier_engines.vendors.replicate.payloads import PredictionInput
from atelier_engines.vendors.results import fetch_image

_MIN_LIFETIME_SECONDS = 5  # the service accepts nothing below
_PATH = "/v1/predictions"
_ID = r"^[\w-]+$"
_TQDM_STEP = re.compile(r"(\d{1,4})/(\d{1,4}) \[")
"""A step as tqdm writes it into the logs:  50%|█████     | 14/28 [00:01<00:01,  9.1it/s]."""
STATES = {
    "succeeded": JobState.SUCCEEDED,
    "failed": JobState.FAILED,
    "canceled": JobState.FAILED,
    "aborted": JobState.FAILED,
}
"""Statuses of predictions that have ended."""
STAGES = {"starting": Stage(name="queued"), "processing": Stage(name="generate")}
"""Statuses of the others."""
_COLD = (
    "the model is still starting there, which can take minutes; try again, or raise timeout_seconds"
)


class ReplicateJob(BaseModel):
    """An accepted prediction."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(pattern=_ID)
    """Id of the prediction."""
    lifetime_seconds: int
    """Time from its creation after which the service ends it."""


class Prediction(BaseModel):
    """A prediction, as the service describes it."""

    id: str = Field(pattern=_ID)
    status: str
    """starting, processing, succeeded, failed, canceled, or aborted, which has never started."""
    output: JsonValue = None
    """URL of a file, a list of them, or an object with some; it may grow until the end."""
    logs: str | None = None
    """What the model has logged so far."""
    error: JsonValue = None
    """Why it failed."""
    data_removed: bool = False
    """Whether input, output and logs were deleted, as they are after an hour."""
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None

    @property
    def never_started(self) -> bool:
        """Whether it ended before the model began with it."""
        return self.status == "aborted" or (self.status == "canceled" and self.started_at is None)

    def outlived(self, seconds: float) -> bool:
        """Whether it ended at least that long after its creation."""
        if self.created_at is None or self.completed_at is None:
            return False
        return (self.completed_at - self.created_at).total_seconds() >= seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicateJobs(TaskJobs[ReplicateConfig]):
    """The predictions of one task; see JobApi."""

    job_type: ClassVar[type[ReplicateJob]] = ReplicateJob

    fields: FieldMap
    """Inputs of the model."""
    version: str
    """Version to run; empty for an official model."""
    answers: dict[str, Prediction] = field(default_factory=dict)
    """Predictions that had ended when the service answered the request for them."""

    @property
    def steps(self) -> int:
        """Steps that most models really run: those that `strength` leaves out are skipped."""
        steps = self.task.steps or 0
        if self.task.init_image is None:
            return steps
        return count_steps_left(steps, self.task.strength)

    async def submit(self, seeds: Sequence[int]) -> AsyncGenerator[ReplicateJob]:
        """See JobApi.submit."""
        if not seeds:
            return
        builder = PredictionInput(task=self.task, config=self.config, fields=self.fields)
        images = await result_from_thread(builder.encode_images)
        builder.build(seeds[0], dict.fromkeys(images, ""))  # raises before anything is uploaded
        urls = await send_images(self.client, images, self.config.image_transfer)
        for number, seed in enumerate(seeds, 1):
            yield await self._submit_once(builder.build(seed, urls), wait=number == len(seeds))

    async def status(self, job: ReplicateJob) -> JobStatus[Prediction]:
        """See JobApi.status."""
        found = self.answers.pop(job.id, None)
        if found is None:
            found = await self.client.request("GET", f"{_PATH}/{job.id}", model=Prediction)
        starting = found.status == "starting"
        return JobStatus(
            response=found,
            state=STATES.get(found.status, JobState.ACTIVE),
            stage=STAGES.get(found.status),
            steps=self._count_steps(found.logs or ""),
            timeout_reason=_COLD if starting else "",
        )

    async def result(self, job: ReplicateJob, status: JobStatus[Prediction], seed: int) -> Output:
        """See JobApi.result.

        Raises:
            ContentFilteredError: the model refused the prompt or an image.
            InvalidTaskError: the model cannot run the task as it stands.
            OutOfMemoryError: the image is too large for the model's hardware.
            JobStoppedError: somebody cancelled it at the service.
            EngineUnavailableError: it has not started in time, and is not billed.
            EngineFailedError: it failed, or its image has expired or is invalid.
            EngineTimeoutError: the deadline passed.
        """
        found = status.response
        if status.state is not JobState.SUCCEEDED:
            raise _translate_end(found, job)
        media = await fetch_image(self.client, self._find_file(found), self.task, self.deadline)
        return Output(media=media, seed=seed)

    async def cancel(self, job: ReplicateJob) -> Stop:
        """See JobApi.cancel. What runs already is billed until then."""
        path = f"{_PATH}/{job.id}/cancel"
        found = await self.client.request("POST", path, model=Prediction)
        if STATES.get(found.status) is None:
            found = await self.client.request("GET", f"{_PATH}/{job.id}", model=Prediction)
        if STATES.get(found.status) is None:
            return Stop.MAY_GO_ON
        if STATES[found.status] is JobState.SUCCEEDED:
            return Stop.ENDED
        return Stop.NEVER_STARTED if found.never_started else Stop.STOPPED

    async def _submit_once(self, given: dict[str, JSON], *, wait: bool) -> ReplicateJob:
        lifetime = max(math.ceil(self.deadline.remaining), _MIN_LIFETIME_SECONDS)
        headers = {"cancel-after": f"{lifetime}s"}
        if wait and self.config.wait_seconds:
            headers["prefer"] = f"wait={self.config.wait_seconds}"
        path, content = f"/v1/models/{self.config.model}/predictions", dict[str, JSON](input=given)
        if self.version:
            path, content = _PATH, {"version": self.version, "input": given}
        found = await self.client.submit_once(
            "POST", path, json=content, headers=headers, model=Prediction
        )
        if found.status in STATES:
            self.answers[found.id] = found
        return ReplicateJob(id=found.id, lifetime_seconds=lifetime)

    def _find_file(self, found: Prediction) -> str:
        """URL of the image, or a data URI.

        Raises:
            EngineFailedError: there is none, or several have no order.
        """
        output = found.output
        if output is None or output == []:
            raise EngineFailedError(
                "replicate has deleted the image: it keeps outputs for one hour"
                if found.data_removed
                else "replicate completed the prediction without an image"
            )
        if isinstance(output, dict):
            output = [value for value in output.values() if _is_file(value)]
        files = output if isinstance(output, list) else [output]
        last = self.fields.schema.output is OutputForm.ITERATOR
        file = files[-1 if last else 0] if files else None
        if not isinstance(file, str) or not _is_file(file):
            raise EngineFailedError(
                "replicate completed the prediction with something else than a file"
            )
        return file

    def _count_steps(self, logs: str) -> int:
        """Steps that are done by the logs; 0 unless their total is the number of steps of the job."""
        counts = [(int(done), int(total)) for done, total in _TQDM_STEP.findall(logs)]
        return max((done for done, total in counts if done <= total == self.steps), default=0)


def _is_file(value: JsonValue) -> bool:
    return isinstance(value, str) and value.startswith(("https:", "http:", "data:"))


def _translate_end(found: Prediction, job: ReplicateJob) -> EngineError:
    """The error for a prediction that has ended without success."""
    seconds = job.lifetime_seconds
    if found.status == "aborted":
        return EngineUnavailableError(
            f"replicate has not started the prediction within {seconds} s, and does not bill it; "
            "the model may be starting: try again"
        )
    if found.status == "canceled" and found.outlived(seconds):
        return EngineTimeoutError(f"replicate ended the prediction after {seconds} s, its deadline")
    if found.status == "canceled":
        return JobStoppedError("the prediction was cancelled at replicate; try again")
    return translate_failure(str(found.error or ""))
