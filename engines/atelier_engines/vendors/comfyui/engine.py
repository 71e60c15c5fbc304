"""The comfyui engine: runs tasks on ComfyUI servers, one job per image."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import ClassVar

from atelier_engines.closing import keeps_job, ordering
from atelier_engines.errors import EngineUnavailableError, UnsupportedError
from atelier_engines.event import Dispatched, Event, Stage
from atelier_engines.task import ImageTask
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors import errors
from atelier_engines.vendors.comfy_config import load_workflows
from atelier_engines.vendors.comfyui.api import ComfyClient
from atelier_engines.vendors.comfyui.capabilities import probed_capabilities, unprobed_capabilities
from atelier_engines.vendors.comfyui.config import ComfyuiConfig
from atelier_engines.vendors.comfyui.handle import JobHandle
from atelier_engines.vendors.comfyui.inventory import read_inventory
from atelier_engines.vendors.comfyui.job_watcher import JobWatcher
from atelier_engines.vendors.comfyui.servers import Servers, close_all, queue_lengths
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.engine import RemoteEngine
from atelier_engines.vendors.images import encode_task_image, encode_task_mask
from atelier_engines.workflows import (
    ControlFile,
    TaskFiles,
    Workflow,
    WorkflowError,
    fill,
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
            ModelMissingError: a server lacks a configured model or ControlNet.
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
        return Servers(clients=clients, inventory=inventory)

    async def _run_image(self, task: ImageTask) -> AsyncGenerator[Event]:
        """Run the task; closing it removes its jobs from the server's queue, or interrupts them, unless it keeps them.

        Raises:
            ModelMissingError: the server lacks a node or file that the workflow needs.
            EngineTimeoutError: it took longer than configured.
            EngineError: see `vendors.errors`.
        """
        mode, servers = required_mode(task), self._connection
        workflow = servers.inventory.workflows.get(mode)
        if workflow is None:
            raise UnsupportedError(mode.name, f"no workflow for {mode.value}")
        yield Stage(name="submit")
        deadline = Deadline(self._config.timeout_seconds)
        jobs = JobHandle.parse(task.resume) if task.resume else None
        client = await servers.select() if jobs is None else servers.find(jobs.server)
        client_id = uuid.uuid4().hex if jobs is None else jobs.client_id
        socket = client.open_socket(client_id)
        async with socket.connect():  # before the jobs: earlier messages are not repeated
            over = False
            try:
                if jobs is None:
                    async with ordering():
                        jobs = await self._submit(client, workflow, task, client_id)
                        yield Dispatched(handle=jobs.text)
                watcher = JobWatcher(
                    client=client,
                    jobs=jobs,
                    task=task,
                    outputs=workflow.outputs,
                    socket=socket,
                    poll_seconds=self._config.poll_seconds,
                    deadline=deadline,
                )
                with errors.after_acceptance("comfyui"):
                    async with aclosing(watcher.watch()) as events:
                        async for event in events:
                            yield event
                over = True
            finally:
                if jobs is not None and not over and not keeps_job():
                    await client.cancel(jobs.prompts)

    async def _submit(
        self, client: ComfyClient, workflow: Workflow, task: ImageTask, client_id: str
    ) -> JobHandle:
        """Submit all of the task's jobs; if one fails, the others are cancelled."""
        client.add_pending(len(task.seeds))
        prompts: list[str] = []
        over = False
        try:
            files = await self._upload(client, task)
            for seed in task.seeds:
                prefix = f"atelier_{client_id}_{len(prompts)}"
                graph = fill(workflow, task, seed=seed, files=files, prefix=prefix)
                previews = self._config.preview_method if task.preview_interval else "none"
                prompt = await client.submit(graph, client_id=client_id, previews=previews)
                prompts.append(prompt)
            over = True
        finally:
            client.add_pending(-len(task.seeds))
            if prompts and not over:
                await client.cancel(tuple(prompts))
        return JobHandle(server=client.url, client_id=client_id, prompts=tuple(prompts))

    async def _upload(self, client: ComfyClient, task: ImageTask) -> TaskFiles:
        """Upload the task's images in the task's size."""
        init = mask = ""
        if task.init_image is not None:
            init = await client.upload(await encode_task_image(task, task.init_image), "init")
        if task.mask is not None:
            mask = await client.upload(await encode_task_mask(task, task.mask), "mask")
        controls = []
        for control in task.controls:
            image = await encode_task_image(task, control.image)
            name = await client.upload(image, control.type.value)
            weights = self._config.controlnets[control.type]
            controls.append(ControlFile(image=name, model=weights))
        model = task.model or next(iter(self._connection.inventory.models), "")
        return TaskFiles(model=model, init_image=init, mask=mask, controls=tuple(controls))
