"""Runs tasks on a serverless endpoint at RunPod: one job of worker-comfyui an image."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import ClassVar

from atelier_engines.event import Event
from atelier_engines.options import limit_choices, parse_options
from atelier_engines.task import ImageTask
from atelier_engines.vendors.capabilities import build_service_capabilities
from atelier_engines.vendors.client import VendorClient, connect
from atelier_engines.vendors.comfy_options import WorkflowOptions, limit_overrides
from atelier_engines.vendors.comfy_workflows import WorkflowSet
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.endpoints import EndpointOptions, select_endpoint
from atelier_engines.vendors.engine import RemoteEngine
from atelier_engines.vendors.jobs import run_jobs
from atelier_engines.vendors.runpod.config import RunpodConfig
from atelier_engines.vendors.runpod.endpoint_api import RunpodJobs, request_health
from atelier_engines.vendors.runpod.errors import translate_error

_RESPONSE_TIMEOUT_SECONDS = 60.0


class RunpodOptions(EndpointOptions, WorkflowOptions):
    """Options of a runpod engine."""


class RunpodEngine(RemoteEngine[VendorClient]):
    """ComfyUI workflows behind https://api.runpod.ai."""

    name: ClassVar[str] = "runpod"

    def __init__(self, config: RunpodConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet. `delay_scale` is a factor for every pause; tests make it small."""
        self._config = config
        self._delay_scale = delay_scale
        self._workflows = WorkflowSet.load(config)
        capabilities = build_service_capabilities(
            config,
            self._workflows.capabilities(max_images=config.max_images),
            description=f"ComfyUI ({config.family}) on the RunPod endpoint {config.endpoint}",
            cancellable=True,
            options=RunpodOptions,
        )
        schema = limit_choices(capabilities.options_schema, "endpoint", config.endpoints)
        schema = limit_overrides(schema, self._workflows.workflows.values(), config)
        super().__init__(replace(capabilities, options_schema=schema))

    async def check(self) -> None:
        """See Engine.check. Asks for the state of the endpoint, which may have scaled to zero."""
        await request_health(self._connection, self._config.endpoint)

    async def _connect(self) -> VendorClient:
        headers = {"authorization": f"Bearer {self._config.api_key.get_secret_value()}"}
        return VendorClient(
            name=self.name,
            client=connect(self._config.base_url, headers=headers),
            delay_scale=self._delay_scale,
            response_timeout_seconds=_RESPONSE_TIMEOUT_SECONDS
            + (self._config.sync_wait_seconds or 0.0),
            translate_error=translate_error,
        )

    def _run_image(self, task: ImageTask) -> AsyncGenerator[Event]:
        deadline = Deadline(self._config.timeout_seconds)
        jobs = RunpodJobs(
            client=self._connection,
            config=self._config,
            workflows=self._workflows,
            endpoint=select_endpoint(parse_options(task, RunpodOptions), self._config.endpoints),
            task=task,
            deadline=deadline,
        )
        return run_jobs(
            jobs, poll_seconds=self._config.poll_seconds, max_polls=self._config.max_polls
        )
