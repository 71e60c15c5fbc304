"""The API of Black Forest Labs: the responses that are used, and the jobs of one task."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from atelier_engines.closing import Stop
from atelier_engines.errors import ContentFilteredError, EngineFailedError
from atelier_engines.event import Output, Stage
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors.bfl.config import BflConfig
from atelier_engines.vendors.bfl.payloads import build_payload
from atelier_engines.vendors.jobs import JobState, JobStatus, TaskJobs
from atelier_engines.vendors.results import fetch_image

_PROGRESS_STEPS = 100
_MAX_REASON_LENGTH = 200


class BflJob(BaseModel):
    """An accepted job."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(min_length=1)
    """Id of the job."""
    polling_url: str = ""
    """URL of its status; absent in some responses."""

    @property
    def status_url(self) -> str:
        """URL of its status."""
        return self.polling_url or f"/v1/get_result?id={self.id}"


class Sample(BaseModel):
    """A generated image."""

    sample: str = Field(min_length=1)
    """Signed URL, valid for ten minutes."""


class BflStatus(BaseModel):
    """The status of a job."""

    status: str
    """Pending, Ready, Request Moderated …: an open set."""
    result: Sample | None = None
    """Present once the status is Ready."""
    progress: float | None = None
    """0 to 1; absent most of the time."""
    details: JsonValue = None
    """Why it was moderated or failed, in no fixed shape."""

    @property
    def moderated(self) -> bool:
        """Whether the service refused the prompt, an image sent or the result."""
        return "moderated" in self.status.lower()

    @property
    def state(self) -> JobState:
        """Whether the job has ended; an unknown status means that it is running."""
        if self.status.lower() == "ready":
            return JobState.SUCCEEDED
        failed = self.moderated or self.status.lower() == "error"
        return JobState.FAILED if failed else JobState.ACTIVE

    @property
    def reasons(self) -> str:
        """Why it was moderated or failed, in brackets; empty when the service does not say."""
        details = self.details
        if isinstance(details, dict):
            details = details.get("Moderation Reasons") or details.get("error") or ""
        if isinstance(details, list):
            details = ", ".join(str(reason) for reason in details)
        return f" ({str(details)[:_MAX_REASON_LENGTH]})" if details else ""


class Credits(BaseModel):
    """The balance of the account."""

    credits: float
    """Balance in the service's own currency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BflJobs(TaskJobs[BflConfig]):
    """The jobs of one task; see JobApi."""

    job_type: ClassVar[type[BflJob]] = BflJob
    cancellable: ClassVar[bool] = False

    @property
    def steps(self) -> int:
        """Parts that the progress of one job is counted in."""
        return _PROGRESS_STEPS

    async def submit(self, seeds: Sequence[int]) -> AsyncGenerator[BflJob]:
        """See JobApi.submit."""
        if not seeds:
            return
        payload = await result_from_thread(partial(build_payload, self.task, self.config))
        for seed in seeds:
            body = payload.body_for(seed)
            yield await self.client.submit_once("POST", payload.path, json=body, model=BflJob)

    async def status(self, job: BflJob) -> JobStatus[BflStatus]:
        """See JobApi.status."""
        found = await self.client.request("GET", job.status_url, model=BflStatus)
        if found.status.lower() == "task not found":
            raise EngineFailedError("the job is lost: bfl does not know it any more")
        progress = 1.0 if found.state is JobState.SUCCEEDED else found.progress or 0.0
        return JobStatus(
            response=found,
            state=found.state,
            stage=Stage(name="generate"),
            steps=int(_PROGRESS_STEPS * progress) if 0.0 <= progress <= 1.0 else 0,
        )

    async def result(self, job: BflJob, status: JobStatus[BflStatus], seed: int) -> Output:
        """See JobApi.result.

        Raises:
            ContentFilteredError: the service moderated the prompt, an image sent or the result.
            EngineFailedError: the job failed, or its image is gone or invalid.
            EngineTimeoutError: the deadline passed.
        """
        found = status.response
        if found.moderated:
            sent = "request" in found.status.lower()
            what = "the prompt or an image sent" if sent else "the generated image"
            raise ContentFilteredError(f"bfl refused {what}{found.reasons}; change the prompt")
        if status.state is JobState.FAILED:
            raise EngineFailedError(f"bfl failed to run the job{found.reasons}; try again")
        if found.result is None:
            raise EngineFailedError(f"bfl completed the job {job.id} without an image")
        url = found.result.sample
        media = await fetch_image(self.client, url, self.task, self.deadline)
        return Output(media=media, seed=seed)

    async def cancel(self, job: BflJob) -> Stop:  # noqa: ARG002 (there is no request that could name it)
        """See JobApi.cancel. The service cannot cancel: the job runs to its end and is billed."""
        return Stop.MAY_GO_ON
