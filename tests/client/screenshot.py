"""Draws docs/cli.svg: what real commands print on a terminal, with the model that ships with Atelier.

`python -m tests.client.screenshot` writes it anew.
"""

from __future__ import annotations

import html
import os
import pty
import re
import subprocess
import tempfile
from io import StringIO
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from tests.client.atelier_command import ATELIER, PLAIN
from tests.conftest import ROOT, RunningServer, launch

FILE = ROOT / "docs" / "cli.svg"
COMMANDS = (
    'generate "a red apple" -o apple.png --seed 7 --steps 8 --preview-interval 1',
    "list",
    "engines",
)
_COLUMNS, _ROWS = 88, 40
_ENGINES = {"tiny": {"type": "diffusion"}, "sketch": {"type": "sketch"}}
_FONTS = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace"
_ERASE = "\x1b[2K"
"""Begins each frame of a bar that is drawn again."""
_VARYING = re.compile(r"[0-9a-z]{26}|01[0-9a-z]{12}|\d+:\d\d:\d\d|\d+\.\d s")
"""Ids, and times."""


def run_commands(server: RunningServer, folder: Path) -> Text:
    """Each command with what it leaves on the terminal."""
    shown = Text()
    for command in COMMANDS:
        shown.append("$ ", style="bold green").append(f"atelier {command}\n", style="bold")
        shown.append(Text.from_ansi(_run_on_terminal(server, folder, command))).append("\n\n")
    shown.rstrip()
    return shown


def draw(shown: Text) -> str:
    """The terminal as an SVG, without fonts from elsewhere."""
    console = Console(
        record=True, file=StringIO(), width=_COLUMNS, force_terminal=True, color_system="truecolor"
    )
    console.print(shown, soft_wrap=True)
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    form = re.sub(r"<!--.*?-->", "", form)
    form = form.replace("Fira Code, monospace", _FONTS)
    return console.export_svg(title="atelier", code_format=form, unique_id="terminal")


def read_texts(svg: str) -> list[str]:
    """The texts in an SVG, without those that change from run to run, and without images and bars."""
    texts = (html.unescape(text) for text in re.findall(r"<text [^>]*>([^<]*)</text>", svg))
    plain = (_VARYING.sub("…", text.replace("\xa0", " ")).strip(" \n▀━╺╸") for text in texts)
    return [text for text in plain if text]


def start_server(folder: Path) -> RunningServer:
    """The server of somebody who has just installed it."""
    return launch(folder, engines=_ENGINES, wait=["tiny", "sketch"])


def _run_on_terminal(server: RunningServer, folder: Path, command: str) -> str:
    """The output of a command, of which a bar leaves its last frame."""
    master, slave = pty.openpty()
    size = {"COLUMNS": str(_COLUMNS), "LINES": str(_ROWS), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"{ATELIER} {command}"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=folder,
        env=PLAIN | size | {"COLORTERM": "truecolor", "ATELIER_SERVER": server.address},
    )
    os.close(slave)
    written = b""
    try:
        while data := os.read(master, 1 << 16):
            written += data
    except OSError:  # the command has ended
        pass
    finally:
        os.close(master)
        process.wait()
    text = re.sub(r"\x1b\[\?25[hl]", "", written.decode()).replace("\r\n", "\n").rstrip()
    before, bar, rest = text.partition("\x1b[32m⠋")
    return before + rest.rpartition(_ERASE)[2].lstrip("\r") if bar else text


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = start_server(folder)
        try:
            FILE.write_text(draw(run_commands(server, folder)))
        finally:
            server.kill()


if __name__ == "__main__":
    main()
