"""The command line on a real terminal: the bar, the previews, Ctrl-C."""

from __future__ import annotations

import asyncio
import io
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atelier.v1 import generation_pb2
from atelier.v1 import generation_service_pb2 as pb
from tests.client.atelier_command import ATELIER, PLAIN, start
from tests.client.fake_server import FakeServer
from tests.client.screen import run_on, screen

Served = tuple[FakeServer, str]
PREVIEW = generation_pb2.Preview(media_type="image/png", data=b"\x89PNG small")


def names_in(folder: Path) -> list[str]:
    """The files in a folder."""
    return sorted(path.name for path in folder.iterdir())


async def test_a_terminal_shows_a_bar(fake_server: Served, tmp_path: Path) -> None:
    """Stage, step and percentage; the file is on stdout."""
    _, address = fake_server
    async with screen() as terminal:
        process = await run_on(terminal, "generate", "x", "--server", address, cwd=tmp_path)
        out, _ = await process.communicate()
        await asyncio.sleep(0.05)
    assert process.returncode == 0
    assert "succeeded" in terminal.text
    assert "100%" in terminal.text
    assert out.decode() == "a-lamp.png  (seed 7, engine stand-in)\n"


@pytest.mark.parametrize(
    ("environment", "mark"),
    [({"KITTY_WINDOW_ID": "1"}, "\x1b_Ga=T"), ({"TERM_PROGRAM": "iTerm.app"}, "\x1b]1337;File=")],
)
async def test_previews_are_drawn_where_they_can_be(
    environment: dict[str, Any], mark: str, fake_server: Served, tmp_path: Path
) -> None:
    """One for each event that has one, in the protocol of the terminal."""
    service, address = fake_server
    service.preview = PREVIEW
    async with screen() as terminal:
        process = await run_on(
            terminal, "generate", "x", "--server", address, cwd=tmp_path, **environment
        )
        await process.communicate()
        await asyncio.sleep(0.05)
    assert terminal.text.count(mark) == 4


async def test_previews_stay_away_from_other_terminals(fake_server: Served, tmp_path: Path) -> None:
    """No escape sequences for a terminal that would print them."""
    service, address = fake_server
    service.preview = PREVIEW
    async with screen() as terminal:
        process = await run_on(terminal, "generate", "x", "--server", address, cwd=tmp_path)
        await process.communicate()
        await asyncio.sleep(0.05)
    assert "\x1b_G" not in terminal.text
    assert "1337" not in terminal.text


@pytest.mark.parametrize(
    ("environment", "drawn"),
    [
        ({"COLORTERM": "truecolor"}, "\x1b[38;2;255;0;0;48;2;0;0;255m▀"),
        ({"COLORTERM": "truecolor", "TMUX": "a", "KITTY_WINDOW_ID": "1"}, "48;2;0;0;255m▀"),
        ({}, "\x1b[38;5;196;48;5;21m▀"),
        ({"TERM": "dumb"}, ""),
        ({"COLORTERM": "truecolor", "NO_COLOR": "1"}, ""),
    ],
)
async def test_previews_are_drawn_with_characters_elsewhere(
    environment: dict[str, Any], drawn: str, fake_server: Served, tmp_path: Path
) -> None:
    """A cell in the colours of two pixels, as far as the terminal has colours."""
    stripes = Image.new("RGB", (1, 24), "red")
    for row in range(1, 24, 2):
        stripes.putpixel((0, row), (0, 0, 255))
    file = io.BytesIO()
    stripes.resize((24, 24), Image.Resampling.NEAREST).save(file, "PNG")
    service, address = fake_server
    service.preview = generation_pb2.Preview(media_type="image/png", data=file.getvalue())
    async with screen() as terminal:
        process = await run_on(
            terminal, "generate", "x", "--server", address, cwd=tmp_path, **environment
        )
        await process.communicate()
        await asyncio.sleep(0.05)
    assert drawn in terminal.text
    assert ("▀" in terminal.text) == bool(drawn)
    assert "\x1b_G" not in terminal.text


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupt_cancels_and_prints_the_result(
    sent: signal.Signals, fake_server: Served, tmp_path: Path
) -> None:
    """The generation is cancelled, and the result is printed."""
    service, address = fake_server
    service.hangs_after = 2
    process = await start("generate", "x", "--server", address, cwd=tmp_path)
    assert process.stderr is not None
    while b"denoise 2/5" not in await process.stderr.readline():
        pass
    process.send_signal(sent)
    _, err = await process.communicate()
    assert process.returncode == 130
    assert err.decode() == "g1: cancelled at step 2\n"
    assert isinstance(service.requests[-1], pb.CancelGenerationRequest)


async def test_an_interrupt_before_the_answer_cancels_too(
    fake_server: Served, tmp_path: Path
) -> None:
    """What the server has accepted does not go on because nobody learnt its id."""
    service, address = fake_server
    service.answers = asyncio.Event()
    process = await start("generate", "x", "--server", address, cwd=tmp_path)
    await service.waiting.acquire()
    process.send_signal(signal.SIGINT)
    await service.waiting.acquire()  # it asks again, to learn the id
    service.answers.set()
    _, err = await process.communicate()
    first, again, cancelled = service.requests
    assert process.returncode == 130
    assert first == again
    assert isinstance(cancelled, pb.CancelGenerationRequest)
    assert b"Traceback" not in err


async def test_an_interrupt_that_python_drops_is_not_lost(
    fake_server: Served, tmp_path: Path
) -> None:
    """As one that arrives in a destructor; the next event ends the command."""
    service, address = fake_server
    service.hangs_after = 2
    program = (
        "import os, signal, sys\n"
        "from atelier_client.cli import app, progress\n"
        "class Dropping:\n"
        "    def __del__(self): os.kill(os.getpid(), signal.SIGTERM); [None for _ in range(10**6)]\n"
        "show = progress.LineDisplay.show\n"
        "def drop(self, event): Dropping(); show(self, event)\n"
        "progress.LineDisplay.show = drop\n"
        f"sys.exit(app.run(['generate', 'x', '--server', '{address}']))\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        cwd=tmp_path,
        env=PLAIN,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == 130
    assert b"KeyboardInterrupt" in err  # Python has told that it dropped one
    assert err.endswith(b"g1: cancelled at step 2\n")


async def test_an_interrupted_watch_leaves_the_generation_alone(
    fake_server: Served, tmp_path: Path
) -> None:
    """`watch` does not cancel."""
    service, address = fake_server
    service.hangs_after = 2
    process = await start("watch", "g1", "--json", "--server", address, cwd=tmp_path)
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err.decode().strip()) == (130, "error: interrupted")
    assert not any(isinstance(ask, pb.CancelGenerationRequest) for ask in service.requests)


async def test_a_dumb_terminal_shows_lines(fake_server: Served, tmp_path: Path) -> None:
    """As they come, of a generation and of a batch: a bar cannot be changed there."""
    _, address = fake_server
    (tmp_path / "a.txt").write_text("x\n")
    async with screen() as terminal:
        for arguments in (("generate", "x"), ("batch", "a.txt")):
            process = await run_on(
                terminal, *arguments, "--server", address, cwd=tmp_path, TERM="dumb"
            )
            await process.communicate()
        await terminal.wait_for("1: 0001-x.png")
    assert "denoise 2/5" in terminal.text
    assert "\x1b" not in terminal.text


@pytest.mark.parametrize(
    ("redirection", "environment"),
    [
        ("2>&-", ""),
        ("2>/dev/full", ""),
        ("2> >(head -c 1 >/dev/null)", ""),
        (">&- 2>&-", ""),
        ("", "ascii"),
    ],
)
async def test_what_was_made_is_saved_whatever_can_be_printed(
    redirection: str, environment: str, fake_server: Served, tmp_path: Path
) -> None:
    """A standard error that is closed, full or left by its reader, and an encoding that lacks a letter."""
    _, address = fake_server
    line = f"{ATELIER} generate x -o é.png --server {address} {redirection}"
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        line,
        cwd=tmp_path,
        env=PLAIN | ({"PYTHONIOENCODING": environment} if environment else {}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await process.communicate()
    assert process.returncode == 0
    assert names_in(tmp_path) == ["é.png"]


async def test_a_reader_that_leaves_ends_the_command_quietly(
    fake_server: Served, tmp_path: Path
) -> None:
    """`atelier watch --json | head -1` prints no error."""
    _, address = fake_server
    line = f"{ATELIER} watch g1 --json --server {address} | head -1"
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        line,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.count(b"\n") == 1
