"""fal's queue: the responses that are used, and the jobs of one task."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from atelier_engines.closing import Stop
from atelier_engines.errors import (
    ContentFilteredError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
)
from atelier_engines.event import Output, Stage
from atelier_engines.task import SafetyMode, count_steps_left
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors.comfy_workflows import WorkflowSet
from atelier_engines.vendors.fal.config import FalConfig
from atelier_engines.vendors.fal.errors import STOPPED_TYPES, translate_failure
from atelier_engines.vendors.fal.models import FalPriority
from atelier_engines.vendors.fal.payloads import build_payload
from atelier_engines.vendors.fal.storage import FalStorage, build_lifecycle_headers, encode_data_uri
from atelier_engines.vendors.jobs import JobState, JobStatus, TaskJobs
from atelier_engines.vendors.results import fetch_image

_MAX_MESSAGE_LENGTH = 300
_MIN_REQUEST_TIMEOUT_SECONDS = 2.0  # the service accepts nothing below
_TQDM_STEP = re.compile(r"(\d{1,4})/(\d{1,4}) \[")
"""A step as tqdm, which counts the steps of diffusers and ComfyUI, writes it: 50%|█████     | 2/4 [00:01<00:01]."""


class FalJob(BaseModel):
    """An accepted job."""

    model_config = ConfigDict(frozen=True)

    request_id: str = Field(min_length=1)
    """Id of the job."""
    status_url: str = Field(min_length=1)
    """URL of its status."""
    response_url: str = Field(min_length=1)
    """URL of its result."""
    cancel_url: str = Field(min_length=1)
    """URL that cancels it."""


class LogLine(BaseModel):
    """A line that the model logged."""

    message: str = ""


class FalStatus(BaseModel):
    """The status of a job."""

    status: str
    """IN_QUEUE, IN_PROGRESS or COMPLETED, which includes failed and cancelled jobs."""
    queue_position: int | None = None
    """Jobs before it; absent once it runs."""
    logs: tuple[LogLine, ...] | None = None
    """All lines so far."""
    error: str | None = None
    """Why it failed."""
    error_type: str | None = None
    """The type of the failure."""


class FalCancelled(BaseModel):
    """The response to a cancellation."""

    status: str = ""
    """OK, or CANCELLATION_REQUESTED."""


class ResultFile(BaseModel):
    """A generated image."""

    url: str = Field(min_length=1)
    """URL of the image, or a data URI."""


class NodeOutput(BaseModel):
    """What one node of a ComfyUI workflow generated."""

    images: tuple[ResultFile, ...] = ()


class FalResult(BaseModel):
    """The result of a job, in any of the shapes that models and workflows use."""

    images: tuple[ResultFile, ...] | None = None
    image: ResultFile | None = None
    outputs: dict[str, NodeOutput] | None = None
    has_nsfw_concepts: tuple[bool, ...] | None = None
    """Whether each image was flagged, and so is black."""

    @property
    def file(self) -> ResultFile:
        """The image.

        Raises:
            EngineFailedError: there is none.
        """
        for file in self._files():
            return file
        raise EngineFailedError("fal completed the job without an image")

    @property
    def flagged(self) -> bool:
        """Whether the image was flagged."""
        return any(self.has_nsfw_concepts or ())

    def _files(self) -> Iterator[ResultFile]:
        yield from self.images or ()
        if self.image is not None:
            yield self.image
        for node in (self.outputs or {}).values():
            yield from node.images


@dataclass(frozen=True, slots=True, kw_only=True)
class FalJobs(TaskJobs[FalConfig]):
    """The jobs of one task; see JobApi."""

    job_type: ClassVar[type[FalJob]] = FalJob

    storage: FalStorage
    """Storage that images are uploaded to, if so configured."""
    workflows: WorkflowSet | None
    """ComfyUI workflows, where the engine runs them instead of a model."""

    @property
    def steps(self) -> int:
        """Steps that the model really runs: diffusers skips those that `strength` leaves out."""
        steps = self.task.steps or 0
        if self.task.init_image is None or self.workflows is not None:
            return steps
        return count_steps_left(steps, self.task.strength)

    async def submit(self, seeds: Sequence[int]) -> AsyncGenerator[FalJob]:
        """See JobApi.submit."""
        if not seeds:
            return
        build = partial(build_payload, self.task, self.config, self.workflows)
        payload = await result_from_thread(build)
        urls = {name: encode_data_uri(png) for name, png in payload.images.items()}
        if payload.images and self.config.image_transfer == "hosted":
            urls = await self.storage.upload(payload.images)
        for seed in seeds:
            body, headers = payload.body(seed, urls), self._limits(payload.priority)
            yield await self.client.submit_once(
                "POST", payload.path, json=body, headers=headers, model=FalJob
            )

    async def status(self, job: FalJob) -> JobStatus[FalStatus]:
        """See JobApi.status."""
        found = await self.client.request(
            "GET", job.status_url, params={"logs": 1}, model=FalStatus
        )
        steps = max((self._count_steps(line.message) for line in found.logs or ()), default=0)
        if found.status == "COMPLETED":
            failed = found.error or found.error_type
            state = JobState.FAILED if failed else JobState.SUCCEEDED
            return JobStatus(response=found, state=state, steps=steps)
        stage = Stage(name="generate")
        if found.status == "IN_QUEUE":
            stage = Stage(name="queued", queue_position=found.queue_position)
        return JobStatus(response=found, stage=stage, steps=steps)

    async def result(self, job: FalJob, status: JobStatus[FalStatus], seed: int) -> Output:
        """See JobApi.result.

        Raises:
            ContentFilteredError: the service refused the prompt or an image, or flagged the result.
            InvalidTaskError: the model cannot run the task as it stands.
            EngineFailedError: the job failed or was cancelled, or its image has expired or is invalid.
            EngineTimeoutError: the deadline passed.
        """
        found = await self._fetch_result(job, status.response)
        safety = self.task.safety_mode or self.config.safety
        if found.flagged and safety is SafetyMode.BLOCK:
            raise ContentFilteredError("fal flagged the generated image; change the prompt")
        media = await fetch_image(self.client, found.file.url, self.task, self.deadline)
        return Output(media=media, seed=seed, flagged=found.flagged)

    async def cancel(self, job: FalJob) -> Stop:
        """See JobApi.cancel. A job that runs already may be billed all the same.

        Source: docs.fal.ai, Queue API, cancel: OK says that the job was taken out of the queue, CANCELLATION_REQUESTED
        that the runner was asked to stop it.
        """
        answer = await self.client.request("PUT", job.cancel_url, model=FalCancelled)
        if answer.status == "OK":
            return Stop.NEVER_STARTED
        found = (await self.status(job)).response
        return Stop.STOPPED if found.error_type in STOPPED_TYPES else Stop.MAY_GO_ON

    async def _fetch_result(self, job: FalJob, status: FalStatus) -> FalResult:
        failure = translate_failure(status.error or "", status.error_type or "")
        if failure is not None:
            raise failure
        failed = (
            f"fal failed to run the job: {(status.error or '')[:_MAX_MESSAGE_LENGTH]}; try again"
        )
        try:
            async with self.deadline.timeout(self.client.name):
                result = await self.client.request("GET", job.response_url, model=FalResult)
        except (EngineTimeoutError, EngineUnavailableError) as error:
            if status.error:
                raise EngineFailedError(failed) from error
            raise EngineTimeoutError(f"the result cannot be fetched: {error}") from error
        if status.error:
            raise EngineFailedError(failed)
        return result

    def _count_steps(self, line: str) -> int:
        """Steps that are done by that log line; 0 unless its total is the number of steps of the job."""
        counts = [(int(done), int(total)) for done, total in _TQDM_STEP.findall(line)]
        return max((done for done, total in counts if done <= total == self.steps), default=0)

    def _limits(self, priority: FalPriority | None) -> dict[str, str]:
        """Headers with the job's priority, and the time after which the service drops it and deletes its images."""
        timeout = max(self.config.timeout_seconds, _MIN_REQUEST_TIMEOUT_SECONDS)
        headers = {"x-fal-request-timeout": f"{timeout:g}"}
        if priority is not None:
            headers["x-fal-queue-priority"] = priority
        return headers | build_lifecycle_headers(self.config.expire_seconds)
