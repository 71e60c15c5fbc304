"""Submits a task's jobs under ids that were stored before, so that each can be found again whatever happens."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from functools import partial

from atelier_engines.closing import ordering
from atelier_engines.errors import EngineUnavailableError, EngineUncertainError
from atelier_engines.event import Dispatched
from atelier_engines.task import ImageTask
from atelier_engines.vendors.comfyui.api import ComfyClient
from atelier_engines.vendors.comfyui.errors import RejectedError
from atelier_engines.vendors.comfyui.filled_inputs import FilledInputs
from atelier_engines.vendors.comfyui.handle import JobHandle
from atelier_engines.vendors.images import encode_task_image, encode_task_mask
from atelier_engines.vendors.outages import OutageWaiter
from atelier_engines.workflows import ControlFile, TaskFiles, Workflow, fill

_LOOKUP_DELAY_SECONDS = 1.0


@dataclass(slots=True, kw_only=True)
class Submission:
    """The jobs of one task on one server."""

    client: ComfyClient
    workflow: Workflow
    task: ImageTask
    jobs: JobHandle
    """Jobs to submit, or those of an earlier attempt."""
    model: str
    """File of the model."""
    controlnets: tuple[str, ...]
    """Files of the ControlNets, one for each control of the task."""
    previews: str
    """How the server makes previews; none for no previews."""
    waiter: OutageWaiter
    resumed: bool
    """Whether an earlier attempt may have submitted some of the jobs."""
    sent: list[str] = field(default_factory=list)
    """Ids of jobs that the server may know."""

    async def run(self) -> AsyncGenerator[Dispatched]:
        """Submit the jobs that the server does not know yet; their ids are stored before, and that all are sent after.

        Raises:
            InvalidTaskError: the server rejects a value of the task.
            ModelMissingError: the server lacks a node or a file.
            EngineUncertainError: a response was lost, and the server no longer responds.
            EngineUnavailableError: the server cannot be reached, rejects the workflow, or does not know the job.
        """
        if self.resumed:
            await self._replace_stopped()
            self.sent.extend(self.jobs.prompts)
        missing = await self._list_missing()
        if not missing:
            return
        async with ordering():
            yield Dispatched(handle=self.jobs.text)
            self.client.add_pending(len(missing))
            try:
                files = await self._upload()
                for number in missing:
                    await self._submit(number, files)
            finally:
                self.client.add_pending(-len(missing))
            self.jobs = self.jobs.as_submitted()
            yield Dispatched(handle=self.jobs.text)

    async def _replace_stopped(self) -> None:
        """Give new ids to the jobs that were stopped as the server was told."""
        prompts, told = self.jobs.prompts, self.jobs.told
        ended = {
            prompt: await self.waiter.ask(partial(self.client.history_entry, prompt))
            for prompt in told
        }
        stopped = {
            prompt for prompt, entry in ended.items() if entry and not entry.status.succeeded
        }
        if stopped:
            self.jobs = self.jobs.keeping({*prompts} - stopped, told=told - stopped)

    async def _list_missing(self) -> list[int]:
        """Numbers of the jobs to submit: none of those that an earlier attempt has submitted, even if they are lost."""
        if self.jobs.submitted:
            return []
        prompts = enumerate(self.jobs.prompts)
        if not self.resumed:
            return [number for number, _ in prompts]
        return [
            number
            for number, prompt in prompts
            if not await self.waiter.ask(partial(self.client.knows, prompt))
        ]

    async def _submit(self, number: int, files: TaskFiles) -> None:
        prompt = self.jobs.prompts[number]
        graph = fill(
            self.workflow,
            self.task,
            seed=self.task.seeds[number],
            files=files,
            prefix=f"atelier_{self.jobs.client_id}_{number}",
        )
        if prompt not in self.sent:
            self.sent.append(prompt)
        try:
            await self.client.submit(
                graph, prompt=prompt, client_id=self.jobs.client_id, previews=self.previews
            )
        except RejectedError as rejection:
            raise rejection.blame(
                FilledInputs(workflow=self.workflow, task=self.task)
            ) from rejection
        except EngineUncertainError as lost:
            await self._require_known(prompt, lost)

    async def _require_known(self, prompt: str, lost: EngineUncertainError) -> None:
        """Return if the server knows a job the response to which was lost; an outage is waited out.

        Raises:
            EngineUnavailableError: it does not.
        """
        await self.client.vendor.pause(_LOOKUP_DELAY_SECONDS)
        if not await self.waiter.ask(partial(self.client.knows, prompt)):
            self.sent.remove(prompt)
            msg = "comfyui did not get the job, or lost it at once"
            raise EngineUnavailableError(msg) from lost

    async def _upload(self) -> TaskFiles:
        """Upload the task's images in the task's size."""
        task, client = self.task, self.client
        init = mask = ""
        if task.init_image is not None:
            init = await client.upload(await encode_task_image(task, task.init_image), "init")
        if task.mask is not None:
            mask = await client.upload(await encode_task_mask(task, task.mask), "mask")
        controls = []
        for control, weights in zip(task.controls, self.controlnets, strict=True):
            image = await encode_task_image(task, control.image)
            name = await client.upload(image, control.type.value)
            controls.append(ControlFile(image=name, model=weights))
        return TaskFiles(model=self.model, init_image=init, mask=mask, controls=tuple(controls))
