"""The comfyui engine: runs tasks on ComfyUI servers, one job per image."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import ClassVar

from atelier_engines.closing import Stop, combine, keeps_job, report_stop
from atelier_engines.errors import EngineUnavailableError, UnsupportedError
from atelier_engines.event import Event, Stage
from atelier_engines.options import parse_options
from atelier_engines.task import ImageTask
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors import errors
from atelier_engines.vendors.comfy_config import load_workflows
from atelier_engines.vendors.comfy_options import WorkflowOptions
from atelier_engines.vendors.comfyui.api import ComfyClient
from atelier_engines.vendors.comfyui.capabilities import probed_capabilities, unprobed_capabilities
from atelier_engines.vendors.comfyui.config import ComfyuiConfig
from atelier_engines.vendors.comfyui.event_socket import EventSocket
from atelier_engines.vendors.comfyui.handle import JobHandle
from atelier_engines.vendors.comfyui.inventory import read_inventory
from atelier_engines.vendors.comfyui.job_watcher import JobWatcher
from atelier_engines.vendors.comfyui.sampling import count_sampler_steps
from atelier_engines.vendors.comfyui.servers import Servers, close_all, queue_lengths
from atelier_engines.vendors.comfyui.step_counter import StepCounter
from atelier_engines.vendors.comfyui.submission import Submission
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.engine import RemoteEngine
from atelier_engines.vendors.late_cancels import LateCancels
from atelier_engines.vendors.outages import OutageWaiter
from atelier_engines.workflows import (
    Workflow,
    WorkflowError,
    apply_request_overrides,
    required_mode,
)


class ComfyuiEngine(RemoteEngine[Servers]):
    """Workflows on one or more ComfyUI servers."""

    name: ClassVar[str] = "comfyui"

    def __init__(self, config: ComfyuiConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet; `delay_scale` multiplies every pause."""
        super().__init__(unprobed_capabilities(config))
        self._config = config
        self._delay_scale = delay_scale

    async def check(self) -> None:
        """See Engine.check. Asks whether a server responds."""
        await queue_lengths(self._connection.clients)

    async def _connect(self) -> Servers:
        """Read what the servers have. Servers that do not respond are skipped now, but tried again for tasks.

        Raises:
            EngineUnavailableError: no server responds, or a workflow is not valid.
            ModelMissingError: a server lacks a configured model or ControlNet, or weights that a workflow names.
        """
        try:
            workflows = await result_from_thread(partial(load_workflows, self._config))
        except WorkflowError as error:
            raise EngineUnavailableError(f"comfyui: {error}") from error
        timeout = self._config.response_timeout_seconds
        clients = tuple(
            ComfyClient(server, response_timeout_seconds=timeout, delay_scale=self._delay_scale)
            for server in self._config.servers
        )
        try:
            responding = [*await queue_lengths(clients)]
            infos = await asyncio.gather(*(client.object_info() for client in responding))
            inventory = read_inventory(self._config, workflows, infos)
            version = await responding[0].version()
        except BaseException:
            await close_all(clients)
            raise
        self._capabilities = probed_capabilities(self._config, inventory, version=version)
        return Servers(
            clients=clients,
            inventory=inventory,
            node_classes=infos[0],
            late_cancels=LateCancels(delay_scale=self._delay_scale),
        )

    async def _run_image(self, task: ImageTask) -> AsyncGenerator[Event]:
        """Run the task; closing it removes its jobs from the server's queue, or interrupts them, unless it keeps them.

        Raises:
            InvalidTaskError: an option is unknown, or changes what it may not change.
            ModelMissingError: the server lacks a node or file that the workflow needs.
            EngineTimeoutError: it took longer than configured.
            EngineError: see `vendors.errors`.
        """
        mode, servers = required_mode(task), self._connection
        workflow = servers.inventory.workflows.get(mode)
        if workflow is None:
            raise UnsupportedError(mode.name, f"no workflow for {mode.value}")
        parse_options(task, WorkflowOptions)
        allowed = self._config.request_overrides
        workflow = apply_request_overrides(workflow, task, allowed)
        yield Stage(name="submit")
        deadline = Deadline(self._config.timeout_seconds)
        known = JobHandle.parse(task.resume) if task.resume else None
        client = await servers.select() if known is None else servers.find(known.server)
        if known is not None:
            await servers.late_cancels.withdraw(known.client_id)
        submission = self._submission(client, workflow, task, known, deadline)
        socket = client.open_socket(submission.jobs.client_id)
        watcher: JobWatcher | None = None
        async with socket.connect():  # before the jobs: earlier messages are not repeated
            try:
                async with aclosing(submission.run()) as dispatched:
                    async for stored in dispatched:
                        yield stored
                watcher = self._watcher(submission, socket)
                steps = count_sampler_steps(workflow, servers.node_classes, task.steps)
                counter = StepCounter(
                    samplers=steps, jobs=len(task.seeds), interval=task.preview_interval
                )
                with errors.after_acceptance("comfyui"):
                    async with aclosing(watcher.watch(counter)) as events:
                        async for event in events:
                            yield event
            finally:
                if not keeps_job():
                    ended = 0 if watcher is None else watcher.ended
                    await self._stop_jobs(submission, ended)

    async def _stop_jobs(self, submission: Submission, ended: int) -> None:
        """Stop the jobs after the first `ended`, and report it; those that cannot be stopped now, later."""
        client, jobs = submission.client, submission.jobs
        running = [prompt for prompt in jobs.prompts[ended:] if prompt in submission.sent]
        stops = await client.stop_each(running)
        told = [prompt for prompt, stop in stops.items() if stop is Stop.MAY_GO_ON]
        if told:
            self._connection.late_cancels.add(jobs.client_id, partial(client.stop, told))
        kept = {*jobs.prompts[:ended], *told}
        kept |= {prompt for prompt, stop in stops.items() if stop is Stop.ENDED}
        left = jobs.keeping(kept, told=told).text if kept else ""
        report_stop(combine([*stops.values(), *[Stop.STOPPED] * ended]), left)

    def _submission(
        self,
        client: ComfyClient,
        workflow: Workflow,
        task: ImageTask,
        known: JobHandle | None,
        deadline: Deadline,
    ) -> Submission:
        return Submission(
            client=client,
            workflow=workflow,
            task=task,
            jobs=known or JobHandle.choose(client.url, len(task.seeds)),
            model=task.model or next(iter(self._connection.inventory.models), ""),
            controlnets=tuple(self._config.controlnets[one.type] for one in task.controls),
            previews=self._config.preview_method if task.preview_interval else "none",
            waiter=OutageWaiter(client=client.vendor, deadline=deadline),
            resumed=known is not None,
        )

    def _watcher(self, submission: Submission, socket: EventSocket) -> JobWatcher:
        return JobWatcher(
            client=submission.client,
            jobs=submission.jobs,
            task=submission.task,
            outputs=submission.workflow.outputs,
            socket=socket,
            poll_seconds=self._config.poll_seconds,
            waiter=submission.waiter,
        )
