"""What a ComfyUI stand-in knows, and how it is told to behave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from atelier_engines.conformance.fake_server import ResponseQueue

OTHERS = "somebody-else"
"""Begins the ids of jobs that are not ours."""


@dataclass(slots=True)
class Behaviour:
    """How a server is to behave; honest and quick as it comes."""

    step_seconds: float = 0.002
    old: bool = False
    """As before prompts had ids of their own to interrupt, states of progress, and metadata."""
    without: tuple[str, ...] = ()
    """Classes of nodes that it lacks."""
    token: str = ""
    """What a proxy before it wants to see."""
    mute: bool = False
    """Tells nothing over sockets."""
    no_sockets: bool = False
    """Refuses them."""
    junk: bool = False
    """Sends broken and unknown frames between the good ones."""
    hang_up_at: int = 0
    """Closes all sockets at that step."""
    error: dict[str, Any] | None = None
    """Fails at the second step with that."""
    blocked: bool = False
    """Tells an error that is none, and goes on."""
    restart_at: int = 0
    """Forgets everything at that step."""
    intruder_at: int = 0
    """Somebody else interrupts at that step."""
    history_seconds: float = 0.0
    """Between telling success and writing it down."""
    cached: bool = False
    """Has made this before: nothing but the output runs."""
    others: int = 0
    """Jobs of others that come first."""
    held: bool = False
    """Begins no job."""
    lose_answer: bool = False
    """Accepts a prompt, and breaks the connection."""
    partly: bool = False
    """Accepts a prompt although an output was refused."""
    kind: str = "output"
    """Of the pictures: temp ones are no results."""
    prompts: ResponseQueue = field(default_factory=ResponseQueue)
    views: ResponseQueue = field(default_factory=ResponseQueue)
    histories: ResponseQueue = field(default_factory=ResponseQueue)
    uploads: ResponseQueue = field(default_factory=ResponseQueue)


@dataclass(slots=True)
class StandIn:
    """One server."""

    url: str = ""
    does: Behaviour = field(default_factory=Behaviour)
    submitted: list[dict[str, Any]] = field(default_factory=list)
    """Every prompt that was accepted."""
    pending: list[list[Any]] = field(default_factory=list)
    running: list[list[Any]] = field(default_factory=list)
    history: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    received: dict[str, bytes] = field(default_factory=dict)
    """Uploads by path."""
    interrupts: list[str | None] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    cancels: int = 0
    """How often something was to leave the queue."""
    freed: int = 0
    sockets: dict[str, tuple[web.WebSocketResponse, bool]] = field(default_factory=dict)
    stopped: bool = False
    number: int = 0

    def reset(self) -> None:
        """Be new and honest."""
        for records in (self.submitted, self.pending, self.interrupts, self.deleted):
            records.clear()
        for shelf in (self.history, self.files, self.received):
            shelf.clear()
        self.stopped = bool(self.running)
        self.does = Behaviour()
        self.freed = self.cancels = 0

    def graph(self, index: int = -1) -> dict[str, Any]:
        """The graph of an accepted prompt."""
        graph: dict[str, Any] = self.submitted[index]["prompt"]
        return graph
