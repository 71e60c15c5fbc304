"""Tells the other processes of a database what has changed, and hears it from them: ids and numbers, never contents.

What is told during some milliseconds goes out together, after its commits and in none of their transactions: a NOTIFY
inside would hold up the commits of all. One that is lost costs a poll interval.
"""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import psycopg
from psycopg import sql

from atelier_server.store.postgres.connections import connect, is_lost
from atelier_server.store.protocol import Event

_GATHER_SECONDS = 0.002
_MAX_EVENTS = 50  # in one notification, whose text may have 7,999 bytes
_WAIT_SECONDS = 1.0  # until a thread looks whether it is to end
_RETRY_SECONDS = 0.2


@dataclass(slots=True)
class Notice:
    """What another process has written."""

    events: dict[str, Event] = field(default_factory=dict)
    """By generation, the newest event without its contents: number, state and engine."""
    queues: set[str] = field(default_factory=set)
    """Engines whose queues have work that nobody was told of."""
    cancelled: set[str] = field(default_factory=set)
    """Generations that run, and are to be cancelled."""
    lost: bool = False
    """Whether others were lost, so that everything is to be read."""


class Notices:
    """Sends and receives notices; used in the event loop."""

    def __init__(self, dsn: str, process: int, on_notice: Callable[[Notice], None]) -> None:
        """Listen from now on; `on_notice` is called in the event loop with what other processes tell."""
        self._dsn = dsn
        self._process = process
        self._on_notice = on_notice
        self._loop = asyncio.get_running_loop()
        self._gathered = Notice()
        self._is_due = False
        self._texts: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._sender = threading.Thread(target=self._send_all, name="store-notify", daemon=True)
        self._listener = threading.Thread(target=self._listen, name="store-listen", daemon=True)
        self._sender.start()
        self._listener.start()

    def tell_event(self, event: Event) -> None:
        """Tell of the newest event of a generation."""
        self._gathered.events[event.generation_id] = event
        self._send_soon()

    def tell_queue(self, engine: str) -> None:
        """Tell that the engine's queue has work."""
        self._gathered.queues.add(engine)
        self._send_soon()

    def tell_cancelled(self, generation_id: str) -> None:
        """Tell whoever runs the generation to cancel it."""
        self._gathered.cancelled.add(generation_id)
        self._send_soon()

    async def close(self) -> None:
        """Send what is left, and listen no more."""
        self._send()
        self._closed.set()
        self._texts.put([json.dumps({"process": self._process})])  # wakes our own listener
        self._texts.put(None)
        await asyncio.to_thread(self._sender.join)
        await asyncio.to_thread(self._listener.join)

    def _send_soon(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_later(_GATHER_SECONDS, self._send)

    def _send(self) -> None:
        self._is_due = False
        gathered, self._gathered = self._gathered, Notice()
        self._texts.put(list(_write(self._process, gathered)))

    def _send_all(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        while (texts := self._texts.get()) is not None:
            with suppress(psycopg.Error):  # the others poll
                if connection is None or is_lost(connection):
                    connection = connect(self._dsn)
                for text in texts:
                    connection.execute(
                        "SELECT pg_notify('atelier_' || current_schema(), %s)", (text,)
                    )
        if connection is not None:
            connection.close()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                with connect(self._dsn) as connection:
                    self._receive(connection)
            except psycopg.Error:
                self._closed.wait(_RETRY_SECONDS)

    def _receive(self, connection: psycopg.Connection[Any]) -> None:
        found = connection.execute("SELECT 'atelier_' || current_schema()").fetchone()
        channel = sql.Identifier(str(found[0] if found else ""))
        connection.execute(sql.SQL("LISTEN {}").format(channel))
        self._hand_over(Notice(lost=True))
        while not self._closed.is_set():
            for notification in connection.notifies(timeout=_WAIT_SECONDS):
                if self._closed.is_set():
                    return
                process, notice = _read(notification.payload)
                if process != self._process:
                    self._hand_over(notice)

    def _hand_over(self, notice: Notice) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._on_notice, notice)


def _write(process: int, notice: Notice) -> Iterator[str]:
    """The notice in texts of at most 7,999 bytes."""
    events, queues, cancelled = (
        iter(notice.events.values()),
        iter(notice.queues),
        iter(notice.cancelled),
    )
    while True:
        message = {
            "events": [
                (each.generation_id, each.sequence, each.state, each.engine)
                for each in islice(events, _MAX_EVENTS)
            ],
            "queues": list(islice(queues, _MAX_EVENTS)),
            "cancelled": list(islice(cancelled, _MAX_EVENTS)),
        }
        if not any(message.values()):
            return
        yield json.dumps({"process": process, **message}, separators=(",", ":"))


def _read(text: str) -> tuple[int, Notice]:
    """The process that sent it, and the notice."""
    message = json.loads(text)
    events = {
        name: Event(generation_id=name, sequence=sequence, state=state, engine=engine)
        for name, sequence, state, engine in message.get("events", ())
    }
    return int(message["process"]), Notice(
        events, set(message.get("queues", ())), set(message.get("cancelled", ()))
    )
