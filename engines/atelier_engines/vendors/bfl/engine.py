"""Runs tasks at Black Forest Labs: one job a picture, followed by polling. It can't be cancelled there."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import EngineUnavailableError, UnsupportedError
from atelier_engines.event import Dispatched, Event, Output, Stage, Step
from atelier_engines.media import Encoded, Pixels
from atelier_engines.task import AudioTask, ImageTask, Task
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors import errors
from atelier_engines.vendors.bfl.bodies import order_of
from atelier_engines.vendors.bfl.capabilities import abilities
from atelier_engines.vendors.bfl.config import BflConfig
from atelier_engines.vendors.bfl.following import follow
from atelier_engines.vendors.bfl.wire import Accepted, Credits, Jobs, Sample, jobs_from_handle
from atelier_engines.vendors.client import VendorClient, connect
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.images import load_result_image

_NAME = "bfl"
_HOSTS = (".bfl.ai",)
_PATIENCE_SECONDS = 60.0
_PARTS = 100  # of a picture, by which progress is counted
_KINDS = ("image/", "application/octet-stream", "binary/octet-stream")


class BflEngine:
    """FLUX models behind https://api.bfl.ai."""

    def __init__(self, config: BflConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet. `delay_scale` multiplies every pause; tests make it small."""
        self._config = config
        self._delay_scale = delay_scale
        self._capabilities = abilities(config)
        self._connection: VendorClient | None = None

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start. Connects with the first request."""
        client = connect(
            self._config.base_url,
            headers={"x-key": self._config.api_key.get_secret_value()},
        )
        self._connection = VendorClient(
            name=_NAME,
            client=client,
            trusted_hosts=_HOSTS,
            delay_scale=self._delay_scale,
            response_timeout_seconds=_PATIENCE_SECONDS,
        )

    async def check(self) -> None:
        """See Engine.check. Asks for the account's balance, which is free."""
        await self._vendor.request("GET", "/v1/credits", model=Credits)

    async def stop(self) -> None:
        """See Engine.stop."""
        if self._connection is not None:
            await self._connection.client.aclose()
            self._connection = None

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. Closing it leaves the jobs to run to their end at the service, which bills them.

        Raises:
            ContentFilteredError: the service moderated the prompt, a picture sent or a picture made.
            EngineFailedError: a job failed or is lost, or its picture is gone or broken.
            EngineTimeoutError: the deadline came first.
            EngineError: see `vendors.errors`.
        """
        if isinstance(task, AudioTask):
            raise UnsupportedError("audio", "this engine makes no sound")
        deadline = Deadline(self._config.timeout_seconds)
        jobs = jobs_from_handle(task.resume)
        yield Stage(name="submit")
        async with aclosing(self._submitted(task, jobs)) as grown:
            async for jobs in grown:
                yield Dispatched(handle=jobs.handle())
        yield Stage(name="generate")
        async with aclosing(self._results(task, jobs, deadline)) as events:
            async for event in events:
                yield event

    async def _submitted(self, task: ImageTask, jobs: Jobs) -> AsyncGenerator[Jobs]:
        """The jobs, each time one more has been accepted."""
        missing = task.seeds[len(jobs.jobs) :]
        if not missing:
            return
        order = await result_from_thread(partial(order_of, task, self._config))
        for seed in missing:
            body = order.body_for(seed)
            accepted = await self._vendor.submit_once("POST", order.path, json=body, model=Accepted)
            jobs = Jobs(jobs=(*jobs.jobs, accepted))
            yield jobs

    async def _results(
        self, task: ImageTask, jobs: Jobs, deadline: Deadline
    ) -> AsyncGenerator[Event]:
        """Progress and pictures, in the order of the seeds."""
        step, total = 0, _PARTS * len(task.seeds)
        for number, (job, seed) in enumerate(zip(jobs.jobs, task.seeds, strict=True)):
            states = follow(
                self._vendor, job, poll_seconds=self._config.poll_seconds, deadline=deadline
            )
            async with aclosing(states):
                async for state in states:
                    part = state if isinstance(state, float) else 1.0
                    reached = _PARTS * number + int(_PARTS * min(part, 1.0))
                    if reached > step:
                        step = reached
                        yield Step(index=step, total=total)
                    if isinstance(state, Sample):
                        media = await self._picture(state, task, deadline)
                        yield Output(media=media, seed=seed)

    async def _picture(
        self, sample: Sample, task: ImageTask, deadline: Deadline
    ) -> Encoded | Pixels:
        with errors.after_acceptance(_NAME):
            async with deadline.timeout(_NAME):
                file = await self._vendor.download(sample.sample, kinds=_KINDS)
        picture = partial(load_result_image, _NAME, file.data, width=task.width, height=task.height)
        return await result_from_thread(picture)

    @property
    def _vendor(self) -> VendorClient:
        if self._connection is None:
            raise EngineUnavailableError("the bfl engine has not been started")
        return self._connection
