"""Runs tasks on a serverless endpoint at RunPod: one job of worker-comfyui a picture, followed and cancelled."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from functools import partial

from pydantic import ValidationError

from atelier_engines.capabilities import CancelSupport, Capabilities, Reproducibility
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineUnavailableError,
    UnsupportedError,
)
from atelier_engines.event import Dispatched, Event, Output, Stage
from atelier_engines.media import Encoded, Pixels
from atelier_engines.task import AudioTask, ImageTask, Task
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors import errors
from atelier_engines.vendors.client import VendorClient, connect
from atelier_engines.vendors.comfy_workflows import WorkflowSet
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.images import load_result_image
from atelier_engines.vendors.runpod import wire
from atelier_engines.vendors.runpod.bodies import bodies_of
from atelier_engines.vendors.runpod.config import RunpodConfig
from atelier_engines.vendors.runpod.errors import failure_from_text, failure_of, refusal_of
from atelier_engines.vendors.runpod.following import follow
from atelier_engines.vendors.runpod.progress import Progression

_NAME = "runpod"
_PATIENCE_SECONDS = 60.0
_CANCEL_SECONDS = 5.0
_KINDS = ("image/", "application/octet-stream", "binary/octet-stream")
_log = logging.getLogger(__name__)


class RunpodEngine:
    """ComfyUI workflows behind https://api.runpod.ai."""

    def __init__(self, config: RunpodConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet. `delay_scale` multiplies every pause; tests make it small."""
        self._config = config
        self._delay_scale = delay_scale
        self._graphs = WorkflowSet.load(config)
        self._connection: VendorClient | None = None
        self._place = f"/{config.endpoint}"
        self._capabilities = Capabilities(
            description=f"ComfyUI ({config.family}) on the RunPod endpoint {config.endpoint}",
            image=self._graphs.capabilities(max_images=config.max_images),
            concurrency=config.concurrency,
            cancel=CancelSupport.REMOTE,
            reproducibility=Reproducibility.BEST_EFFORT,
            price=None if config.price is None else config.price.price(),
        )

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start. Connects with the first request."""
        client = connect(
            self._config.base_url,
            headers={"authorization": f"Bearer {self._config.api_key.get_secret_value()}"},
        )
        self._connection = VendorClient(
            name=_NAME,
            client=client,
            delay_scale=self._delay_scale,
            response_timeout_seconds=_PATIENCE_SECONDS,
            translate_error=refusal_of,
        )

    async def check(self) -> None:
        """See Engine.check. Asks how the endpoint is; one that has scaled to zero is well."""
        await self._vendor.request("GET", f"{self._place}/health", model=wire.Health)

    async def stop(self) -> None:
        """See Engine.stop."""
        if self._connection is not None:
            await self._connection.client.aclose()
            self._connection = None

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. Closing it cancels the jobs; a worker may go on with one, and bill, all the same.

        Raises:
            InvalidTaskError: the pictures are too large to send, or the workflow does not fit the worker.
            ModelMissingError: the worker lacks a file that the workflow names.
            OutOfMemoryError: the picture is too large for the worker.
            EngineFailedError: a job failed, was cancelled or is lost, or its picture is gone or broken.
            EngineTimeoutError: the deadline came first, ours or the service's.
            EngineError: see `vendors.errors`.
        """
        if isinstance(task, AudioTask):
            raise UnsupportedError("audio", "this engine makes no sound")
        deadline = Deadline(self._config.timeout_seconds)
        jobs, done = wire.jobs_from_handle(task.resume), 0
        progress = Progression(steps=task.steps or 0, jobs=len(task.seeds))
        try:
            yield Stage(name="submit")
            async with aclosing(self._submitted(task, jobs)) as grown:
                async for jobs in grown:
                    yield Dispatched(handle=jobs.handle())
            for number, (job, seed) in enumerate(zip(jobs.jobs, task.seeds, strict=True)):
                final = wire.State(status="")
                async with aclosing(self._followed(job, deadline)) as states:
                    async for state in states:
                        for event in progress.of_state(number, state):
                            yield event
                        final = state if isinstance(state, wire.State) else final
                done = number + 1
                yield await self._output(final, task, seed, deadline)
        finally:
            await self._cancel(jobs.jobs[done:])

    async def _submitted(self, task: ImageTask, jobs: wire.Jobs) -> AsyncGenerator[wire.Jobs]:
        """The jobs, each time one more has been accepted."""
        missing = task.seeds[len(jobs.jobs) :]
        if not missing:
            return
        seconds = self._config.timeout_seconds
        bodies = await result_from_thread(partial(bodies_of, task, self._graphs, seconds=seconds))
        for seed in missing:
            body = await result_from_thread(partial(bodies.body, seed))
            accepted = await self._vendor.submit_once(
                "POST", f"{self._place}/run", json=body, model=wire.Accepted
            )
            jobs = wire.Jobs(jobs=(*jobs.jobs, accepted))
            yield jobs

    def _followed(
        self, job: wire.Accepted, deadline: Deadline
    ) -> AsyncGenerator[wire.State | wire.Workers]:
        return follow(
            self._vendor,
            self._place,
            job,
            poll_seconds=self._config.poll_seconds,
            deadline=deadline,
        )

    async def _output(
        self, final: wire.State, task: ImageTask, seed: int, deadline: Deadline
    ) -> Output:
        data = await self._data(_picture_in(final), deadline)
        picture = partial(load_result_image, _NAME, data, width=task.width, height=task.height)
        media: Encoded | Pixels = await result_from_thread(picture)
        return Output(media=media, seed=seed)

    async def _data(self, text: str, deadline: Deadline) -> bytes:
        if text.startswith(("http://", "https://")):
            with errors.after_acceptance(_NAME):
                async with deadline.timeout(_NAME):
                    return (await self._vendor.download(text, kinds=_KINDS)).data
        try:
            return base64.b64decode(text.rpartition(",")[2], validate=True)
        except binascii.Error as error:
            raise EngineFailedError("runpod sent an image that cannot be decoded") from error

    async def _cancel(self, jobs: Sequence[wire.Accepted]) -> None:
        """Ask the service to give the jobs up; a worker may not, and that is all that can be done."""
        with suppress(EngineError, TimeoutError):
            async with asyncio.timeout(_CANCEL_SECONDS):
                places = (f"{self._place}/cancel/{job.id}" for job in jobs)
                await asyncio.gather(
                    *(self._vendor.request("POST", one, model=wire.Anything) for one in places),
                    return_exceptions=True,
                )

    @property
    def _vendor(self) -> VendorClient:
        if self._connection is None:
            raise EngineUnavailableError("the runpod engine has not been started")
        return self._connection


def _picture_in(final: wire.State) -> str:
    """The picture of a job that has ended: base64 or an address."""
    if final.status != "COMPLETED":
        raise failure_of(final)
    try:
        output = wire.Output.model_validate(final.output or {})
    except ValidationError as error:
        raise EngineFailedError("runpod's worker answered in an unknown shape") from error
    if output.data:
        for trouble in output.errors:
            _log.warning("runpod's worker made the picture, but says: %s", trouble)
        return output.data
    if output.status == "error" or output.errors:
        raise failure_from_text("; ".join(filter(None, (output.message, *output.errors))))
    raise EngineFailedError("runpod's worker made no picture; the workflow needs a SaveImage node")
