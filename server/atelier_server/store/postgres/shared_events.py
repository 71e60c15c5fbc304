"""Events and cancellations that reach the watchers and workers of other processes, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from atelier_server.store.cancellations import Cancellations
from atelier_server.store.events import EventBus
from atelier_server.store.protocol import Event


class SharedEventBus(EventBus):
    """Tells other processes of the newest event of each generation."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        """Start without subscribers; `tell` is called with what was written in this process."""
        super().__init__()
        self._tell = tell
        self.distant_observers: list[Callable[[Event], None]] = []
        """Called with the events of other processes, of which only id, number, state and engine are known."""

    def publish_progress(self, events: Sequence[Event]) -> None:
        """Pass the events on to the subscribers here, and tell other processes of the newest."""
        super().publish_progress(events)
        if events:
            self._tell(events[-1])

    def publish_distant(self, events: Sequence[Event]) -> None:
        """Pass events that another process has written on to the subscribers here, those that they have not got yet."""
        latest = self.find_latest(events[0].generation_id) if events else None
        if latest is not None:
            super().publish_progress([event for event in events if event.sequence > latest])


class SharedCancellations(Cancellations):
    """Tells other processes to cancel what does not run here."""

    def __init__(self, is_running: Callable[[str], bool], tell: Callable[[str], None]) -> None:
        """Start without any; `is_running` says whether a generation runs in this process."""
        super().__init__()
        self._is_running = is_running
        self._tell = tell

    def request(self, generation_id: str) -> None:
        """Tell the worker of the generation, wherever that is."""
        if self._is_running(generation_id):
            super().request(generation_id)
        else:
            self._tell(generation_id)
