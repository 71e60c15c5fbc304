"""The state of a fake ComfyUI server, and the behaviour that tests choose."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aiohttp import web

from atelier_engines.conformance.fake_server import ResponseQueue
from atelier_engines.conformance.remote_service import FakeService
from atelier_engines.conformance.tasks import random_image
from atelier_engines.engine import Engine
from atelier_engines.task import ImageTask
from atelier_engines.vendors.comfyui.config import ComfyuiConfig
from atelier_engines.vendors.comfyui.engine import ComfyuiEngine

TASK = ImageTask(prompt="a lighthouse", width=128, height=64, seeds=(7,), steps=4, guidance=3.0)
IMAGE = random_image(128, 64, 1)

OTHERS = "other-client"
"""Prefix of the ids of jobs of other clients."""


@dataclass(slots=True)
class Behaviour:
    """Behaviour of a server; by default it works, and fast."""

    step_seconds: float = 0.002
    old: bool = False
    """An old version: interrupts ignore ids, no `/api/jobs`, no progress states, no metadata of previews."""
    down: bool = False
    """Cannot be reached, and goes on with its jobs."""
    without: tuple[str, ...] = ()
    """Node classes that it lacks."""
    token: str = ""
    """Authorization header that a proxy in front of it requires."""
    mute: bool = False
    """Sends nothing over sockets."""
    no_sockets: bool = False
    """Refuses sockets."""
    junk: bool = False
    """Sends invalid and unknown frames between the valid ones."""
    hang_up_at: int = 0
    """Step at which it closes all sockets."""
    error: dict[str, Any] | None = None
    """Error with which it fails at the second step."""
    blocked: bool = False
    """Sends an error that is not a failure, and continues."""
    restart_at: int = 0
    """Step at which it restarts and forgets all jobs."""
    intruder_at: int = 0
    """Step at which another client interrupts the job."""
    history_seconds: float = 0.0
    """Time between the success message and the history entry."""
    cached: bool = False
    """Has the result cached: only the output node runs."""
    others: int = 0
    """Number of jobs of other clients that come first."""
    held: bool = False
    """Starts no job."""
    lose_response: bool = False
    """Accepts a prompt, and drops the connection."""
    partly: bool = False
    """Accepts a prompt although an output was rejected."""
    kind: str = "output"
    """Type of the images; temp ones are not results."""


@dataclass(slots=True, kw_only=True)
class StandIn(FakeService):
    """One server."""

    url: str = ""
    uploads: ResponseQueue = field(default_factory=ResponseQueue)
    """Responses to uploads."""
    does: Behaviour = field(default_factory=Behaviour)
    submitted: list[dict[str, Any]] = field(default_factory=list)
    """Accepted prompts."""
    pending: list[list[Any]] = field(default_factory=list)
    executing: list[list[Any]] = field(default_factory=list)
    history: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    received: dict[str, bytes] = field(default_factory=dict)
    """Uploaded files by path."""
    interrupts: list[str | None] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    asked_to_cancel: list[str] = field(default_factory=list)
    """Jobs that were to be cancelled, whatever the response."""
    asked: int = 0
    """Number of requests for the queue."""
    freed: int = 0
    sockets: dict[str, tuple[web.WebSocketResponse, bool]] = field(default_factory=dict)
    stopped: bool = False
    number: int = 0

    task: ClassVar[ImageTask] = TASK
    downloadable: ClassVar[bool] = False

    def engine(self, **settings: object) -> Engine:
        """See FakeService.engine."""
        config = {
            "servers": [{"url": self.url}],
            "poll_seconds": 0.05,
            "response_timeout_seconds": 2,
            **settings,
        }
        return ComfyuiEngine(ComfyuiConfig.model_validate(config), delay_scale=0.01)

    @property
    def accepted(self) -> int:
        """See FakeService.accepted."""
        return len(self.submitted)

    @property
    def cancelled(self) -> int:
        """See FakeService.cancelled."""
        return len(self.asked_to_cancel)

    @property
    def billed(self) -> int:
        """See FakeService.billed: what was neither taken out of the queue nor interrupted, once or twice."""
        stopped = {*self.deleted, *self.interrupts}
        return sum(prompt["prompt_id"] not in stopped for prompt in self.submitted)

    def stop_jobs(self) -> None:
        """See FakeService.stop_jobs. Interrupts the job that is executing."""
        while not self.executing:
            time.sleep(0.001)
        self.interrupts.append(self.executing[0][1])
        self.stopped = True
        while self.executing:
            time.sleep(0.001)

    @property
    def polled(self) -> int:
        """See FakeService.polled."""
        return self.asked

    def forget_jobs(self) -> None:
        """See FakeService.forget_jobs. Waits until no job is executing."""
        while self.pending or self.executing:
            time.sleep(0.001)
        self.history.clear()
        self.submitted.clear()

    def reset(self) -> None:
        """See FakeService.reset."""
        FakeService.reset(self)
        for records in (self.submitted, self.pending, self.interrupts, self.deleted):
            records.clear()
        self.asked_to_cancel.clear()
        for files in (self.history, self.files, self.received):
            files.clear()
        self.stopped = bool(self.executing)
        self.does = Behaviour()
        self.freed = self.asked = 0

    def graph(self, index: int = -1) -> dict[str, Any]:
        """The graph of an accepted prompt, the latest by default."""
        graph: dict[str, Any] = self.submitted[index]["prompt"]
        return graph
