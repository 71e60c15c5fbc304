"""Runs an engine on a part of a canvas, and puts what it makes back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from atelier_engines.decoding.header import UndecodableError, read_header
from atelier_engines.decoding.pixels import decode_image
from atelier_engines.engine import Engine
from atelier_engines.errors import EngineFailedError
from atelier_engines.event import Event, Output
from atelier_engines.media import Encoded, Media, Pixels
from atelier_engines.task import Task
from atelier_engines.threads import result_from_thread
from atelier_server.artifacts.canvas import Canvas


def run_on_canvas(engine: Engine, task: Task, canvas: Canvas | None) -> AsyncGenerator[Event]:
    """The events of the engine, with images of the whole canvas; as they are where there is none.

    Raises:
        EngineError: as the engine.
        EngineFailedError: the image of a service cannot be decoded.
    """
    return engine.run(task) if canvas is None else _put_back(engine.run(task), canvas)


async def _put_back(running: AsyncGenerator[Event], canvas: Canvas) -> AsyncGenerator[Event]:
    async with aclosing(running) as events:
        async for event in events:
            if isinstance(event, Output):
                media = await result_from_thread(partial(_paste, canvas, event.media))
                yield replace(event, media=media, size_reason="")
            else:
                yield event


def _paste(canvas: Canvas, made: Media) -> Media:
    if isinstance(made, Encoded):
        made = _decode(made)
    return canvas.paste(made) if isinstance(made, Pixels) else made


def _decode(file: Encoded) -> Pixels:
    try:
        return decode_image(file.data, read_header(file.data), ["RGB"])["RGB"]
    except UndecodableError as error:
        raise EngineFailedError(
            "the engine sent an image that cannot be put back into init_image"
        ) from error
