"""Runs tasks at Black Forest Labs: one job an image. The service cannot cancel jobs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import ClassVar

from atelier_engines.event import Event
from atelier_engines.task import ImageTask
from atelier_engines.vendors.bfl.capabilities import build_capabilities
from atelier_engines.vendors.bfl.config import BflConfig
from atelier_engines.vendors.bfl.flux_api import BflJobs, Credits
from atelier_engines.vendors.client import VendorClient, connect
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.engine import RemoteEngine
from atelier_engines.vendors.jobs import run_jobs

_TRUSTED_HOSTS = (".bfl.ai",)
_RESPONSE_TIMEOUT_SECONDS = 60.0
_GRACE_SECONDS = 5.0  # until every region knows a new job


class BflEngine(RemoteEngine[VendorClient]):
    """FLUX models behind https://api.bfl.ai. A job of a closed task runs to its end there, and is billed."""

    name: ClassVar[str] = "bfl"

    def __init__(self, config: BflConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet. `delay_scale` is a factor for every pause; tests make it small."""
        super().__init__(build_capabilities(config))
        self._config = config
        self._delay_scale = delay_scale

    async def check(self) -> None:
        """See Engine.check. Asks for the account's balance, which is free."""
        await self._connection.request("GET", "/v1/credits", model=Credits)

    async def _connect(self) -> VendorClient:
        headers = {"x-key": self._config.api_key.get_secret_value()}
        return VendorClient(
            name=self.name,
            client=connect(self._config.base_url, headers=headers),
            trusted_hosts=_TRUSTED_HOSTS,
            delay_scale=self._delay_scale,
            response_timeout_seconds=_RESPONSE_TIMEOUT_SECONDS,
        )

    def _run_image(self, task: ImageTask) -> AsyncGenerator[Event]:
        deadline = Deadline(self._config.timeout_seconds)
        jobs = BflJobs(client=self._connection, config=self._config, task=task, deadline=deadline)
        poll_seconds = self._config.poll_seconds
        return run_jobs(jobs, poll_seconds=poll_seconds, grace_seconds=_GRACE_SECONDS)
