"""Runs tasks on ComfyUI servers. Adapter only: the queue, retries and metrics are others' business."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial

from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import (
    EngineFailedError,
    EngineUnavailableError,
    UnsupportedError,
)
from atelier_engines.event import Dispatched, Event, Stage
from atelier_engines.media import Pixels
from atelier_engines.task import AudioTask, ImageTask, Task
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors import errors, pictures
from atelier_engines.vendors.comfyui.capabilities import abilities, unknown
from atelier_engines.vendors.comfyui.config import ComfyuiConfig
from atelier_engines.vendors.comfyui.following import Follower
from atelier_engines.vendors.comfyui.inventory import Inventory, take_stock
from atelier_engines.vendors.comfyui.job import Jobs
from atelier_engines.vendors.comfyui.server import Server
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.workflows import (
    ControlFile,
    Files,
    Mode,
    Workflow,
    WorkflowError,
    builtin,
    customised,
    filled,
    from_files,
    mode_of,
)


class ComfyuiEngine:
    """Workflows on one or more ComfyUI servers."""

    def __init__(self, config: ComfyuiConfig, *, delay_scale: float = 1.0) -> None:
        """Connect to nothing yet; pauses are multiplied by `delay_scale`."""
        self._config = config
        self._delay_scale = delay_scale
        self._servers: tuple[Server, ...] = ()
        self._inventory: Inventory | None = None
        self._capabilities = unknown(config)
        self._turn = itertools.count()

    @property
    def capabilities(self) -> Capabilities:
        """See Engine.capabilities."""
        return self._capabilities

    async def start(self) -> None:
        """See Engine.start. Servers that do not answer are left out of account, but tried for tasks later."""
        workflows = await result_from_thread(partial(_workflows, self._config))
        servers = tuple(
            Server(
                config,
                request_seconds=self._config.request_seconds,
                delay_scale=self._delay_scale,
            )
            for config in self._config.servers
        )
        self._servers = servers
        try:
            answering = await self._answering()
            infos = await asyncio.gather(*(server.object_info() for server in answering))
            self._inventory = take_stock(self._config, workflows, infos)
            version = await answering[0].version()
        except BaseException:
            await self.stop()
            raise
        self._capabilities = abilities(self._config, self._inventory, version=version)

    async def check(self) -> None:
        """See Engine.check."""
        await self._answering()

    async def stop(self) -> None:
        """See Engine.stop."""
        servers, self._servers, self._inventory = self._servers, (), None
        for server in servers:
            await server.close()

    async def run(self, task: Task) -> AsyncGenerator[Event]:
        """See Engine.run. Jobs are taken out of the server's queue, or interrupted, when it is closed.

        Raises:
            ModelMissingError: the server lacks a node or file that the workflow needs.
            EngineTimeoutError: it took longer than configured.
        """
        if isinstance(task, AudioTask) or self._inventory is None:
            raise EngineUnavailableError("the comfyui engine has not been started")
        workflow = self._inventory.workflows.get(mode_of(task))
        if workflow is None:
            raise UnsupportedError(mode_of(task).name, f"no workflow for {mode_of(task).value}")
        async with aclosing(self._run(task, workflow)) as events:
            async for event in events:
                yield event

    async def _run(self, task: ImageTask, workflow: Workflow) -> AsyncGenerator[Event]:
        deadline = Deadline(self._config.deadline_seconds)
        if task.resume:
            jobs = Jobs.from_handle(task.resume)
            server, client_id = self._server_of(jobs), jobs.client_id
        else:
            jobs = None
            server, client_id = await self._least_loaded(), uuid.uuid4().hex
            yield Stage(name="upload")
        listener = server.listener(client_id)
        async with listener.listening():  # before the order: earlier messages are never told again
            over = False
            try:
                if jobs is None:
                    jobs = await self._submit(server, workflow, task, client_id)
                    yield Dispatched(handle=jobs.handle)
                follower = Follower(
                    server=server,
                    jobs=jobs,
                    task=task,
                    outputs=workflow.outputs,
                    listener=listener,
                    poll_seconds=self._config.poll_seconds,
                    deadline=deadline,
                )
                with errors.under_way("comfyui"):
                    async with aclosing(follower.follow()) as events:
                        async for event in events:
                            yield event
                over = True
            finally:
                if jobs is not None and not over:
                    await server.cancel(jobs.prompts)

    async def _submit(
        self, server: Server, workflow: Workflow, task: ImageTask, client_id: str
    ) -> Jobs:
        """All of the task's jobs, or none of them."""
        server.arriving(len(task.seeds))
        prompts: list[str] = []
        over = False
        try:
            files = await self._uploaded(server, task)
            for seed in task.seeds:
                prefix = f"atelier_{client_id}_{len(prompts)}"
                graph = filled(workflow, task, seed=seed, files=files, prefix=prefix)
                previews = self._config.previews if task.preview_interval else "none"
                prompt = await server.submit(graph, client_id=client_id, previews=previews)
                prompts.append(prompt)
            over = True
        finally:
            server.arriving(-len(task.seeds))
            if prompts and not over:
                await server.cancel(tuple(prompts))
        return Jobs(server=server.url, client_id=client_id, prompts=tuple(prompts))

    async def _uploaded(self, server: Server, task: ImageTask) -> Files:
        """The task's pictures, in the size asked for, at the server."""
        size = {"width": task.width, "height": task.height}
        init = mask = ""
        if task.init_image is not None:
            fitted = partial(_png, pictures.filled, task.init_image, **size)
            init = await server.upload(await result_from_thread(fitted), "init")
        if task.mask is not None:
            fitted = partial(_png, pictures.filled_mask, task.mask, **size)
            mask = await server.upload(await result_from_thread(fitted), "mask")
        controls = []
        for control in task.controls:
            fitted = partial(_png, pictures.filled, control.image, **size)
            name = await server.upload(await result_from_thread(fitted), control.type.value)
            weights = self._config.controlnets[control.type]
            controls.append(ControlFile(image=name, model=weights))
        return Files(
            model=self._model_of(task), init_image=init, mask=mask, controls=tuple(controls)
        )

    def _model_of(self, task: ImageTask) -> str:
        models = self._inventory.models if self._inventory else ()
        return task.model or next(iter(models), "")

    def _server_of(self, jobs: Jobs) -> Server:
        for server in self._servers:
            if server.url == jobs.server:
                return server
        raise EngineFailedError("comfyui: the job is lost: its server is no longer configured")

    async def _least_loaded(self) -> Server:
        """Of those that answer; those with equally much to do take turns."""
        answering = await self._loads()
        if not answering:
            raise EngineUnavailableError(self._silent())
        least = min(load for _, load in answering)
        free = [server for server, load in answering if load == least]
        return free[next(self._turn) % len(free)]

    async def _answering(self) -> list[Server]:
        """Those that answer.

        Raises:
            EngineUnavailableError: none does.
        """
        answering = await self._loads()
        if not answering:
            raise EngineUnavailableError(self._silent())
        return [server for server, _ in answering]

    async def _loads(self) -> list[tuple[Server, int]]:
        loads = await asyncio.gather(*(server.load() for server in self._servers))
        return [
            (server, load)
            for server, load in zip(self._servers, loads, strict=True)
            if load is not None
        ]

    def _silent(self) -> str:
        return f"no ComfyUI server answers at {', '.join(s.url for s in self._config.servers)}"


def _png(
    fit: Callable[[Pixels, int, int], Pixels], picture: Pixels, *, width: int, height: int
) -> bytes:
    return pictures.png_from_pixels(fit(picture, width, height))


def _workflows(config: ComfyuiConfig) -> dict[Mode, Workflow]:
    """Those of the configuration, or those that come with the package; blocks.

    Raises:
        EngineUnavailableError: one of the configuration makes no sense.
    """
    try:
        if config.workflows:
            chosen = {
                mode: from_files(files.graph, files.bindings)
                for mode, files in config.workflows.items()
            }
        else:
            chosen = {mode: builtin(f"{config.family}_{mode.value}") for mode in Mode}
        return {mode: customised(workflow, config.customise) for mode, workflow in chosen.items()}
    except WorkflowError as error:
        raise EngineUnavailableError(f"comfyui: {error}") from error
