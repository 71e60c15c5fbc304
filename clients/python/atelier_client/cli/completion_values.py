"""Completes names of engines, styles, models, LoRAs and schedulers, and ids, by asking the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import islice

import click
from click.shell_completion import CompletionItem

from atelier_client.cli.connection import connect
from atelier_client.engines import Engine
from atelier_client.errors import AtelierError

_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
_NEWEST = 20


def complete_engine(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The names of engines, with their descriptions."""
    _ = parameter
    return [
        CompletionItem(engine.name, help=engine.description)
        for engine in _list_engines(context)
        if engine.name.startswith(incomplete)
    ]


def complete_name(list_names: Callable[[Engine], Iterable[str]]) -> _Complete:
    """Completes what `list_names` returns for the engine that the command names, or for all."""

    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        _ = parameter
        wanted = context.params.get("engine")
        names = {
            name
            for engine in _list_engines(context)
            if not wanted or engine.name == wanted
            for name in list_names(engine)
        }
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]

    return complete


def complete_id(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """The ids of the newest generations, with their prompts."""
    _ = parameter
    try:
        with (
            connect(str(context.params.get("server") or "")) as client,
            closing(client.list(page_size=_NEWEST)) as pages,
        ):
            newest = tuple(islice(pages, _NEWEST))
    except AtelierError:
        return []
    return [
        CompletionItem(generation.id, help=generation.prompt)
        for generation in newest
        if generation.id.startswith(incomplete)
    ]


def _list_engines(context: click.Context) -> tuple[Engine, ...]:
    """The engines of the server; none if it does not answer."""
    try:
        with connect(str(context.params.get("server") or "")) as client:
            return client.capabilities().engines
    except AtelierError:
        return ()
