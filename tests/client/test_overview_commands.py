"""`engines`, `list`, `show`, `cancel` and `top`, against a real server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from atelier_client import AsyncClient
from atelier_client.cli.option_schemas import describe_options
from tests.client.atelier_command import Finished, atelier
from tests.client.screen import run_on, screen
from tests.conftest import RunningServer, launch

ENGINES = {"sketch": {"type": "sketch"}, "dear": {"type": "sketch", "price_per_image": 0.5}}
STYLES = {"ink": {"prompt_suffix": ", in ink"}, "wash": {"prompt_suffix": ", washed"}}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a free engine, one with a price, and styles."""
    running = launch(tmp_path_factory.mktemp("served"), engines=ENGINES, styles=STYLES)
    yield running
    running.kill()


async def call(served: RunningServer, *arguments: str, **environment: Any) -> Finished:  # noqa: ANN401 (texts by name)
    """Run a command."""
    return await atelier(*arguments, "--server", served.address, **environment)


async def make(served: RunningServer, prompt: str, **keywords: Any) -> str:  # noqa: ANN401 (any keyword of the client)
    """Submit a small task, and return the id of its generation."""
    small: dict[str, Any] = {"engine": "sketch", "width": 16, "height": 16, "steps": 1}
    async with AsyncClient(served.address) as client:
        return (await client.submit(prompt, **small | keywords)).id


async def end(served: RunningServer, generation_id: str) -> None:
    """Wait until a generation has ended."""
    async with AsyncClient(served.address) as client:
        async for event in client.follow(generation_id):
            if event.state.ended:
                return


def is_narrow(text: str) -> bool:
    """Whether every line has at most 80 columns."""
    return all(len(line) <= 80 for line in text.splitlines())


async def test_engines_are_shown_with_what_can_be_named(served: RunningServer) -> None:
    """All in tables with the names for options; one on a page with limits, options and price."""
    every, one, nobody = await asyncio.gather(
        call(served, "engines"), call(served, "engines", "dear"), call(served, "engines", "deer")
    )
    assert "--style" in every.out
    assert "ink, wash" in every.out
    for fact in (
        "0.5 USD/image",
        "16–4096, 512 if not given",
        "ink, wash",
        "integer 6–256",
        "stops within a step",
        "0.1–600, 2 if not given",
        "png, webp, jpeg, avif",
    ):
        assert fact in one.out
    assert is_narrow(every.out)
    assert is_narrow(one.out)
    assert nobody.code == 4


def test_options_are_described_by_their_schema() -> None:
    """Alternatives, choices, lists and references, without the null of what is not given."""
    schema = {
        "$defs": {"Mood": {"enum": ["calm", "wild"]}},
        "properties": {
            "a": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}], "default": 3},
            "b": {"$ref": "#/$defs/Mood", "description": "How it looks."},
            "c": {"type": "array", "items": {"type": ["string", "null"]}},
            "d": {"const": "x"},
            "e": {"$ref": "#/$defs/Nothing"},
        },
    }
    told = [(option.name, option.type, option.default) for option in describe_options(schema)]
    assert told == [
        ("a", "integer from 1", "3"),
        ("b", "calm or wild", ""),
        ("c", "list of string", ""),
        ("d", "x", ""),
        ("e", "any", ""),
    ]


async def test_a_generation_is_named_by_the_beginning_of_its_id(served: RunningServer) -> None:
    """Or by @last; an ambiguous beginning is refused with the ids, an unknown one like an unknown id."""
    first = await make(served, "one")
    last = await make(served, "two")
    at = next(index for index in range(26) if first[index] != last[index])
    shown, newest, watched, ambiguous, unknown = await asyncio.gather(
        call(served, "show", first[: at + 1].upper()),
        call(served, "show", "@last"),
        call(served, "watch", first[: at + 1]),
        call(served, "show", first[:at]),
        call(served, "cancel", "zz"),
    )
    assert first in shown.out
    assert last in newest.out
    assert watched.out == f"{first}: succeeded\n"
    assert (ambiguous.code, unknown.code) == (2, 4)
    assert f"{last}, {first}" in ambiguous.err
    assert "atelier list" in unknown.err


async def test_the_list_is_narrow_and_says_why(served: RunningServer) -> None:
    """Local times, and the reason below what failed; wide terminals show whole ids."""
    failed = await make(served, "a long story, " * 20, options={"fail": True})
    await end(served, failed)
    there, here, wide, documents = await asyncio.gather(
        call(served, "list", TZ="Asia/Tokyo"),
        call(served, "list", TZ="UTC"),
        call(served, "list", COLUMNS="160"),
        call(served, "list", "--json"),
    )
    lines = there.out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(failed[:14]))
    assert lines[at + 1].startswith("    ENGINE_FAILED: ")
    assert is_narrow(there.out)
    assert failed in wide.out
    record: Any = documents.documents[0]
    accepted = datetime.fromisoformat(record["generations"][0]["create_time"])
    assert f"{accepted:%H:%M}" in here.out
    assert f"{(accepted.hour + 9) % 24:02}:{accepted:%M}" in there.out


async def test_everything_or_one_engine_is_cancelled(served: RunningServer) -> None:
    """What waits and what runs; each result on its line."""
    hanging = {"options": {"hang": True}}
    ours = [await make(served, "x", **hanging) for _ in range(5)]  # one more than run at once
    other = await make(served, "x", engine="dear", **hanging)
    wrong = await call(served, "cancel", "--engine", "sketch")
    some = await call(served, "cancel", "--all", "--engine", "sketch")
    rest = await call(served, "cancel", "--all")
    nothing = await call(served, "cancel", "--all")
    assert (wrong.code, some.code, rest.code, nothing.code) == (2, 0, 0, 0)
    assert sorted(line[:26] for line in some.out.splitlines()) == sorted(ours)
    assert "cancelled before it started" in some.out.splitlines()[0]
    assert [line[:26] for line in rest.out.splitlines()] == [other]
    assert nothing.err == "nothing waits or runs\n"


async def test_top_shows_queues_rates_and_cost(served: RunningServer, tmp_path: Path) -> None:
    """Once without a terminal; on a terminal until Ctrl-C."""
    await end(served, await make(served, "x", engine="dear", num_images=3))
    hangs = await make(served, "a bridge", options={"hang": True})
    once, document = await asyncio.gather(call(served, "top"), call(served, "top", "--json"))
    async with screen() as terminal:
        process = await run_on(
            *(terminal, "top", "--interval", "0.1", "--server", served.address),
            cwd=tmp_path,
            stdout=terminal.slave,
        )
        await terminal.wait_for("a bridge", times=2)
        process.send_signal(signal.SIGINT)
        await process.wait()
    await call(served, "cancel", hangs)
    (shown,) = (line.split() for line in once.out.splitlines() if line.startswith("dear"))
    assert shown[-4:] == ["1.5", "USD", "0.5", "USD/image"]
    assert hangs[:14] in once.out
    assert is_narrow(once.out)
    totals: Any = document.documents[0]
    assert totals["totals"]["dear"]["costs"] == {"USD": 1.5}
    assert process.returncode == 0
