"""The comfyui engine: runs tasks on ComfyUI servers, one job per image."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import EngineFailedError, EngineUnavailableError, UnsupportedError
from atelier_engines.event import Dispatched, Event, Stage
from atelier_engines.task import AudioTask, ImageTask, Task
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors import errors
from atelier_engines.vendors.comfy_capabilities import Inventory
from atelier_engines.vendors.comfy_config import load_workflows
from atelier_engines.vendors.comfyui.api import ComfyClient
from atelier_engines.vendors.comfyui.capabilities import probed_capabilities, unprobed_capabilities
from atelier_engines.vendors.comfyui.config import ComfyuiConfig
from atelier_engines.vendors.comfyui.handle import JobHandle
from atelier_engines.vendors.comfyui.inventory import read_inventory
from atelier_engines.vendors.comfyui.job_watcher import JobWatcher
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.images import encode_image_of, encode_mask_of
from atelier_engines.workflows import (
    ControlFile,
    TaskFiles,
    Workflow,
    WorkflowError,
    fill,
    required_mode,
)


class ComfyuiEngine:
    """Workflows on one or more ComfyUI servers."""

    def __init__(self, config: ComfyuiConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet; `delay_scale` multiplies every pause."""
        self._config = config
        self._delay_scale = delay_scale
        self._clients: tuple[ComfyClient, ...] = ()
        self._inventory: Inventory | None = None
        self._capabilities = unprobed_capabilities(config)
        self._turn = itertools.count()

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start. Servers that do not respond are skipped now, but tried again for tasks."""
        try:
            workflows = await result_from_thread(partial(load_workflows, self._config))
        except WorkflowError as error:
            raise EngineUnavailableError(f"comfyui: {error}") from error
        timeout = self._config.response_timeout_seconds
        self._clients = tuple(
            ComfyClient(server, response_timeout_seconds=timeout, delay_scale=self._delay_scale)
            for server in self._config.servers
        )
        try:
            responding = await self._responding()
            infos = await asyncio.gather(*(client.object_info() for client in responding))
            self._inventory = read_inventory(self._config, workflows, infos)
            version = await responding[0].version()
        except BaseException:
            await self.stop()
            raise
        self._capabilities = probed_capabilities(self._config, self._inventory, version=version)

    async def check(self) -> None:
        """See Engine.check."""
        await self._responding()

    async def stop(self) -> None:
        """See Engine.stop."""
        clients, self._clients, self._inventory = self._clients, (), None
        for client in clients:
            await client.close()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. Closing it removes the jobs from the server's queue, or interrupts them.

        Raises:
            ModelMissingError: the server lacks a node or file that the workflow needs.
            EngineTimeoutError: it took longer than configured.
        """
        if isinstance(task, AudioTask) or self._inventory is None:
            raise EngineUnavailableError("the comfyui engine has not been started")
        mode = required_mode(task)
        workflow = self._inventory.workflows.get(mode)
        if workflow is None:
            raise UnsupportedError(mode.name, f"no workflow for {mode.value}")
        async with aclosing(self._run(task, workflow)) as events:
            async for event in events:
                yield event

    async def _run(self, task: ImageTask, workflow: Workflow) -> AsyncGenerator[Event]:
        deadline = Deadline(self._config.timeout_seconds)
        if task.resume:
            jobs = JobHandle.parse(task.resume)
            client, client_id = self._client_of(jobs), jobs.client_id
        else:
            jobs = None
            client, client_id = await self._least_loaded(), uuid.uuid4().hex
            yield Stage(name="upload")
        socket = client.open_socket(client_id)
        async with socket.connected():  # before the jobs: earlier messages are not repeated
            over = False
            try:
                if jobs is None:
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
                if jobs is not None and not over:
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
            init = await client.upload(await encode_image_of(task, task.init_image), "init")
        if task.mask is not None:
            mask = await client.upload(await encode_mask_of(task, task.mask), "mask")
        controls = []
        for control in task.controls:
            image = await encode_image_of(task, control.image)
            name = await client.upload(image, control.type.value)
            weights = self._config.controlnets[control.type]
            controls.append(ControlFile(image=name, model=weights))
        return TaskFiles(
            model=self._model_of(task), init_image=init, mask=mask, controls=tuple(controls)
        )

    def _model_of(self, task: ImageTask) -> str:
        models = self._inventory.models if self._inventory else ()
        return task.model or next(iter(models), "")

    def _client_of(self, jobs: JobHandle) -> ComfyClient:
        for client in self._clients:
            if client.url == jobs.server:
                return client
        raise EngineFailedError("comfyui: the job is lost: its server is no longer configured")

    async def _least_loaded(self) -> ComfyClient:
        """Return a responding server with the shortest queue; equal ones take turns."""
        lengths = await self._queue_lengths()
        shortest = min(length for _, length in lengths)
        free = [client for client, length in lengths if length == shortest]
        return free[next(self._turn) % len(free)]

    async def _responding(self) -> list[ComfyClient]:
        return [client for client, _ in await self._queue_lengths()]

    async def _queue_lengths(self) -> list[tuple[ComfyClient, int]]:
        """Return the servers that respond, with their queue lengths.

        Raises:
            EngineUnavailableError: no server responds.
        """
        lengths = await asyncio.gather(*(client.queue_length() for client in self._clients))
        responding = [
            (client, length)
            for client, length in zip(self._clients, lengths, strict=True)
            if length is not None
        ]
        if not responding:
            urls = ", ".join(server.url for server in self._config.servers)
            raise EngineUnavailableError(f"no ComfyUI server responds at {urls}")
        return responding
