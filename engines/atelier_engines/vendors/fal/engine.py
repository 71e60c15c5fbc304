"""Runs tasks at fal.ai: one job a picture, put into its queue, followed, and cancelled there when given up."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from functools import partial

from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import (
    ContentFilteredError,
    EngineError,
    EngineFailedError,
    EngineUnavailableError,
    InvalidTaskError,
    UnsupportedError,
)
from atelier_engines.event import Dispatched, Event, Output, Stage
from atelier_engines.media import Encoded, Pixels
from atelier_engines.task import AudioTask, ImageTask, SafetyMode, Task
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors import errors
from atelier_engines.vendors.client import VendorClient, connect
from atelier_engines.vendors.comfy_workflows import WorkflowSet
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.fal.bodies import order_of
from atelier_engines.vendors.fal.capabilities import abilities
from atelier_engines.vendors.fal.config import FalConfig
from atelier_engines.vendors.fal.errors import refusal_of
from atelier_engines.vendors.fal.following import follow, result_of
from atelier_engines.vendors.fal.progress import Progress
from atelier_engines.vendors.fal.storage import Storage, data_uri
from atelier_engines.vendors.fal.wire import (
    Accepted,
    Anything,
    Jobs,
    Result,
    State,
    jobs_from_handle,
)
from atelier_engines.vendors.images import load_result_image

_NAME = "fal"
_HOSTS = (".fal.run", ".fal.ai")
_PATIENCE_SECONDS = 60.0
_CANCEL_SECONDS = 5.0
_SHORTEST_WAIT_SECONDS = 2.0  # the service takes nothing below
_KINDS = ("image/", "application/octet-stream")
_NOBODYS_JOB = "00000000-0000-0000-0000-000000000000"
_NAMESPACES = frozenset({"comfy", "workflows"})


class FalEngine:
    """Models and apps behind https://queue.fal.run."""

    def __init__(self, config: FalConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet. `delay_scale` multiplies every pause; tests make it small."""
        self._config = config
        self._delay_scale = delay_scale
        self._capabilities = abilities(config)
        self._graphs = None if config.comfy is None else WorkflowSet.load(config.comfy)
        self._connection: VendorClient | None = None
        self._store: VendorClient | None = None

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start. Connects with the first request."""
        key = self._config.api_key.get_secret_value()
        self._connection = VendorClient(
            name=_NAME,
            client=connect(self._config.base_url, headers={"authorization": f"Key {key}"}),
            trusted_hosts=_HOSTS,
            delay_scale=self._delay_scale,
            response_timeout_seconds=_PATIENCE_SECONDS,
            translate_error=partial(refusal_of, key=key),
        )
        self._store = VendorClient(
            name="fal's storage",
            client=connect(self._config.storage_url),
            delay_scale=self._delay_scale,
            response_timeout_seconds=_PATIENCE_SECONDS,
        )

    async def check(self) -> None:
        """See Engine.check. Asks for a job that nobody has: only a good key learns that."""
        endpoint = self._config.model if self._config.comfy is None else self._config.comfy.endpoint
        parts = endpoint.split("/")
        app = "/".join(parts[: 3 if parts[0] in _NAMESPACES else 2])
        with suppress(EngineFailedError, InvalidTaskError):
            await self._vendor.request(
                "GET", f"/{app}/requests/{_NOBODYS_JOB}/status", model=Anything
            )

    async def stop(self) -> None:
        """See Engine.stop."""
        for vendor in (self._connection, self._store):
            if vendor is not None:
                await vendor.client.aclose()
        self._connection = self._store = None

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. Closing it cancels the jobs; one that runs already may be billed all the same.

        Raises:
            ContentFilteredError: the service refused the prompt or a picture, or flagged the picture made.
            EngineFailedError: a job failed, was cancelled or is lost, or its picture is gone or broken.
            EngineTimeoutError: the deadline came first.
            EngineError: see `vendors.errors`.
        """
        if isinstance(task, AudioTask):
            raise UnsupportedError("audio", "this engine makes no sound")
        deadline = Deadline(self._config.timeout_seconds)
        jobs, done = jobs_from_handle(task.resume), 0
        progress = Progress(steps=self._steps_of(task), jobs=len(task.seeds))
        try:
            yield Stage(name="submit")
            async with aclosing(self._submitted(task, jobs)) as grown:
                async for jobs in grown:
                    yield Dispatched(handle=jobs.handle())
            for number, (job, seed) in enumerate(zip(jobs.jobs, task.seeds, strict=True)):
                states = follow(
                    self._vendor, job, poll_seconds=self._config.poll_seconds, deadline=deadline
                )
                state = State(status="")
                async with aclosing(states):
                    async for state in states:
                        for event in progress.of_state(number, state):
                            yield event
                result = await result_of(self._vendor, job, state, deadline=deadline)
                done = number + 1
                yield await self._output(result, task, seed, deadline)
        finally:
            await self._cancel(jobs.jobs[done:])

    async def _submitted(self, task: ImageTask, jobs: Jobs) -> AsyncGenerator[Jobs]:
        """The jobs, each time one more has been accepted."""
        missing = task.seeds[len(jobs.jobs) :]
        if not missing:
            return
        order = await result_from_thread(partial(order_of, task, self._config, self._graphs))
        addresses = {name: data_uri(png) for name, png in order.pictures.items()}
        if order.pictures and self._config.image_transfer == "hosted":
            addresses = await self._storage.addresses(order.pictures)
        for seed in missing:
            body = order.body(seed, addresses)
            accepted = await self._vendor.submit_once(
                "POST", order.path, json=body, headers=self._wishes(), model=Accepted
            )
            jobs = Jobs(jobs=(*jobs.jobs, accepted))
            yield jobs

    def _wishes(self) -> dict[str, str]:
        """Limits after which the service itself forgets about a job and about its pictures."""
        wait = max(self._config.timeout_seconds, _SHORTEST_WAIT_SECONDS)
        wishes = {"x-fal-request-timeout": f"{wait:g}"}
        if self._config.expire_seconds is not None:
            wishes["x-fal-object-lifecycle-preference"] = (
                f'{{"expiration_duration_seconds": {self._config.expire_seconds}}}'
            )
        return wishes

    async def _output(
        self, result: Result, task: ImageTask, seed: int, deadline: Deadline
    ) -> Output:
        way = task.safety_mode or self._config.safety
        if result.flagged and way is SafetyMode.BLOCK:
            raise ContentFilteredError("fal flagged the picture made; change the prompt")
        data = await self._data(result.file.url, deadline)
        picture = partial(load_result_image, _NAME, data, width=task.width, height=task.height)
        media: Encoded | Pixels = await result_from_thread(picture)
        return Output(media=media, seed=seed, flagged=result.flagged)

    async def _data(self, url: str, deadline: Deadline) -> bytes:
        if not url.startswith("data:"):
            with errors.after_acceptance(_NAME):
                async with deadline.timeout(_NAME):
                    return (await self._vendor.download(url, kinds=_KINDS)).data
        try:
            return base64.b64decode(url.partition(",")[2], validate=True)
        except binascii.Error as error:
            raise EngineFailedError("fal sent an image that cannot be decoded") from error

    async def _cancel(self, jobs: Sequence[Accepted]) -> None:
        """Ask the service to give the jobs up; it may not, and that is all that can be done."""
        with suppress(EngineError, TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                await asyncio.gather(
                    *(self._vendor.request("PUT", job.cancel_url, model=Anything) for job in jobs),
                    return_exceptions=True,
                )

    def _steps_of(self, task: ImageTask) -> int:
        """Steps that the model really does: diffusers skips those that `strength` leaves out."""
        steps = task.steps or 0
        if task.init_image is None or self._graphs is not None:
            return steps
        return min(int(steps * task.strength), steps)

    @property
    def _storage(self) -> Storage:
        if self._store is None:
            raise EngineUnavailableError("the fal engine has not been started")
        return Storage(vendor=self._vendor, store=self._store, rest_url=self._config.rest_url)

    @property
    def _vendor(self) -> VendorClient:
        if self._connection is None:
            raise EngineUnavailableError("the fal engine has not been started")
        return self._connection
