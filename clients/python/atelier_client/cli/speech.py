"""Finds the engine that speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from atelier_client.cli.task_options import TaskArguments
from atelier_client.enums import AudioFeature, EngineState
from atelier_client.tasks import RequestKeywords

if TYPE_CHECKING:
    from atelier_client.client import Client


def choose_speaker(
    client: Client, arguments: TaskArguments, keywords: RequestKeywords
) -> RequestKeywords:
    """The keywords with an engine that speaks, a ready one if there is one; unchanged where none is asked for.

    Raises:
        click.UsageError: no engine of the server speaks.
    """
    if not arguments.speech or arguments.engine:
        return keywords
    able = [
        engine
        for engine in client.capabilities().engines
        if engine.audio is not None and AudioFeature.SPEECH in engine.audio.features
    ]
    if not able:
        raise click.UsageError(
            "no engine of this server speaks: `atelier engines` lists what they can"
        )
    best = min(able, key=lambda engine: engine.state is not EngineState.READY)
    return {**keywords, "engine": best.name}
