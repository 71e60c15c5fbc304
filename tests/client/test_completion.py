"""Shells complete commands, and names by asking the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.client.atelier_command import ATELIER, PLAIN, atelier
from tests.conftest import RunningServer, launch

STYLES = {"ink": {"prompt_suffix": ", in ink"}, "wash": {"prompt_suffix": ", washed"}}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with two styles."""
    running = launch(tmp_path_factory.mktemp("served"), styles=STYLES)
    yield running
    running.kill()


async def complete(served: RunningServer, line: str) -> list[str]:
    """What bash is offered behind the line."""
    ended = await atelier(
        ATELIER_SERVER=f"http://{served.address}",
        COMP_WORDS=line,
        COMP_CWORD=str(line.count(" ")),
        _ATELIER_COMPLETE="bash_complete",
    )
    return [offer.partition(",")[2] for offer in ended.out.splitlines() if offer]


async def test_names_and_ids_are_completed(served: RunningServer) -> None:
    """Commands, engines, styles and ids; nothing where no server answers."""
    at = ("--server", served.address)
    made = await atelier("generate", "x", "--size", "16", "--detach", *at)
    offers: Any = await asyncio.gather(
        complete(served, "atelier gen"),
        complete(served, "atelier generate --engine s"),
        complete(served, "atelier generate --engine sketch --style "),
        complete(served, f"atelier show {made.out[:20]}"),
        complete(served, "atelier engines --server 127.0.0.1:1 "),
    )
    assert list(offers) == [["generate"], ["sketch"], ["ink", "wash"], [made.out.strip()], []]


async def test_mistyped_names_are_answered_with_the_nearest(served: RunningServer) -> None:
    """Of engines and of styles."""
    at = ("--server", served.address)
    engine, style = await asyncio.gather(
        atelier("generate", "x", "--engine", "Sketc", *at),
        atelier("generate", "x", "--style", "inc", *at),
    )
    assert "did you mean 'sketch'?" in engine.err
    assert "did you mean 'ink'?" in style.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_every_shell_gets_its_script(shell: str) -> None:
    """Which names the command."""
    ended = await atelier("completion", shell)
    assert ended.code == 0
    assert "_ATELIER_COMPLETE" in ended.out


async def test_bash_takes_the_script() -> None:
    """As the help says to load it."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f'eval "$({ATELIER} completion bash)"; complete -p atelier'),
        stdout=asyncio.subprocess.PIPE,
        env=PLAIN,
    )
    out, _ = await process.communicate()
    assert b"_atelier_completion atelier" in out
