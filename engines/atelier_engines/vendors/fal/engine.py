"""Runs tasks at fal.ai: one job of its queue an image, cancelled there when the task is closed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import partial
from typing import ClassVar

from atelier_engines.errors import EngineFailedError, InvalidTaskError
from atelier_engines.event import Event
from atelier_engines.task import ImageTask
from atelier_engines.vendors.client import AnyResponse, VendorClient, connect
from atelier_engines.vendors.comfy_workflows import WorkflowSet
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.engine import RemoteEngine
from atelier_engines.vendors.fal.backup import BackupTransport
from atelier_engines.vendors.fal.capabilities import build_capabilities
from atelier_engines.vendors.fal.config import FalConfig
from atelier_engines.vendors.fal.errors import is_final, translate_error
from atelier_engines.vendors.fal.queue_api import FalJobs
from atelier_engines.vendors.fal.storage import FalStorage
from atelier_engines.vendors.jobs import run_jobs

_TRUSTED_HOSTS = (".fal.run", ".fal.ai", ".falrun.com")
_RESPONSE_TIMEOUT_SECONDS = 60.0
_NONEXISTENT_JOB = "00000000-0000-0000-0000-000000000000"
_NAMESPACES = frozenset({"comfy", "workflows"})


class FalEngine(RemoteEngine[FalStorage]):
    """Models and apps behind https://queue.fal.run."""

    name: ClassVar[str] = "fal"

    def __init__(self, config: FalConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet. `delay_scale` is a factor for every pause; tests make it small."""
        super().__init__(build_capabilities(config))
        self._config = config
        self._delay_scale = delay_scale
        self._workflows = None if config.comfy is None else WorkflowSet.load(config.comfy)

    async def check(self) -> None:
        """See Engine.check. Asks for a job that does not exist: without a valid key it is refused first."""
        parts = self._config.endpoints[0].split("/")
        app = "/".join(parts[: 3 if parts[0] in _NAMESPACES else 2])
        with suppress(EngineFailedError, InvalidTaskError):
            url = f"/{app}/requests/{_NONEXISTENT_JOB}/status"
            await self._connection.queue.request("GET", url, model=AnyResponse)

    async def _connect(self) -> FalStorage:
        key = self._config.api_key.get_secret_value()
        queue = VendorClient(
            name=self.name,
            client=connect(
                self._config.base_url,
                headers={"authorization": f"Key {key}"},
                transport=self._backup_transport(),
            ),
            trusted_hosts=_TRUSTED_HOSTS,
            delay_scale=self._delay_scale,
            response_timeout_seconds=_RESPONSE_TIMEOUT_SECONDS,
            translate_error=partial(translate_error, key=key),
            is_final=is_final,
        )
        uploads = VendorClient(
            name="fal's storage",
            client=connect(self._config.storage_url),
            delay_scale=self._delay_scale,
            response_timeout_seconds=_RESPONSE_TIMEOUT_SECONDS,
        )
        return FalStorage(
            queue=queue,
            uploads=uploads,
            rest_url=self._config.rest_url,
            expire_seconds=self._config.expire_seconds,
        )

    def _backup_transport(self) -> BackupTransport | None:
        primary, backup = self._config.base_url, self._config.second_url
        if backup is None:
            return None
        return BackupTransport(connect(primary), primary=primary, backup=backup)

    def _run_image(self, task: ImageTask) -> AsyncGenerator[Event]:
        deadline = Deadline(self._config.timeout_seconds)
        jobs = FalJobs(
            client=self._connection.queue,
            storage=self._connection,
            config=self._config,
            workflows=self._workflows,
            task=task,
            deadline=deadline,
        )
        return run_jobs(jobs, poll_seconds=self._config.poll_seconds)
