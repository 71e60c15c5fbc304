"""Settings of a runpod engine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from atelier_engines.vendors.comfy_config import WorkflowSetConfig
from atelier_engines.vendors.config import (
    ApiKey,
    BaseUrl,
    Concurrency,
    JobsConfig,
    PollSeconds,
    TimeoutSeconds,
)

RunpodEndpoint = Annotated[str, Field(pattern=r"^[\w-]+$")]
"""Id of an endpoint, as paths have it."""


_MAX_RUN_BYTES = 10 * 10**6
_MAX_RUNSYNC_BYTES = 20 * 10**6


class RunpodConfig(WorkflowSetConfig, JobsConfig):
    """A runpod engine's section in the configuration file."""

    api_key: ApiKey = Field(description="API key of the account: ${RUNPOD_API_KEY}.")
    endpoint: RunpodEndpoint = Field(
        description="Id of a serverless endpoint that runs worker-comfyui."
    )
    further_endpoints: tuple[RunpodEndpoint, ...] = Field(
        default=(),
        description="Ids of further endpoints of the same workers and price, which requests may name in "
        "options.endpoint.",
    )
    base_url: BaseUrl = "https://api.runpod.ai/v2"
    concurrency: Concurrency = Field(
        default=3,
        description="Maximum tasks at once; best set to the endpoint's maximum of workers.",
    )
    poll_seconds: PollSeconds = 1.0
    sync_wait_seconds: float | None = Field(
        default=None,
        ge=1,
        le=300,
        description="Submit by `/runsync`, which answers with the result if it is there within this time, "
        "else the job is polled. Null submits by `/run`. A task of several images then runs one after the "
        "other, and a server that is killed meanwhile does not find the job again.",
    )
    max_polls: int | None = Field(
        default=None,
        ge=1,
        description="Polls after which a job that has not ended is given up and cancelled; unset: "
        "as many as `timeout_seconds` allows.",
    )
    timeout_seconds: TimeoutSeconds = Field(
        default=900.0,
        description="Maximum time of a task from its acceptance, the start of a worker included.",
    )

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All endpoints, the one for tasks that name none first."""
        return (self.endpoint, *self.further_endpoints)

    @property
    def max_request_bytes(self) -> int:
        """Size of the largest request that the service takes."""
        return _MAX_RUN_BYTES if self.sync_wait_seconds is None else _MAX_RUNSYNC_BYTES
