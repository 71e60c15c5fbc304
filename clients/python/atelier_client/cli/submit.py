"""Submits a task, and waits for an engine that is loading."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from atelier_client.cli.interruption import raise_if_interrupted
from atelier_client.enums import EngineState
from atelier_client.errors import UnavailableError
from atelier_client.results import Generation
from atelier_client.tasks import AudioTask, ImageTask, RequestKeywords

if TYPE_CHECKING:
    from atelier_client.client import Client

_RETRY_DELAY_SECONDS = 1.0


def submit_when_loaded(
    client: Client, task: ImageTask | AudioTask, keywords: RequestKeywords
) -> Generation:
    """Start a task, and return the generation as it was accepted.

    While the server refuses it and an engine that may run it is loading, say so once on stderr and try again.

    Raises:
        AtelierError: the task is refused for another reason, or no engine is loading any more.
    """
    announced = ""
    while True:
        try:
            return client.submit(task, **keywords)
        except UnavailableError as error:
            if error.reason != "ENGINE_UNAVAILABLE":
                raise
            loading = _describe_loading(client, keywords.get("engine", ""))
            if not loading:
                raise
        if loading != announced:
            click.echo(f"waiting until {loading} loaded; Ctrl-C gives up", err=True)
            announced = loading
        time.sleep(_RETRY_DELAY_SECONDS)
        raise_if_interrupted()


def _describe_loading(client: Client, engine: str) -> str:
    """The engine of that name, or all where it is empty, that are loading; empty if none is."""
    names = [
        health.engine
        for health in client.health().engines
        if health.state is EngineState.LOADING and engine in {"", health.engine}
    ]
    if not names:
        return ""
    if len(names) == 1:
        return f"engine {names[0]} is"
    return f"engines {', '.join(names)} are"
