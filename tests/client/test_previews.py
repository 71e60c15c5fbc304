"""Previews are shown only in terminals that support images, in their protocol."""

from __future__ import annotations

import base64
import re

import pytest

from atelier_client.cli.previews import ROWS, TerminalImageProtocol, detect_protocol, render
from atelier_client.environment import Terminal
from atelier_client.results import Preview

PNG = Preview(media_type="image/png", data=b"\x89PNG" + bytes(9000), width=64, height=64)
JPEG = Preview(media_type="image/jpeg", data=b"\xff\xd8\xff", width=64, height=64)


@pytest.mark.parametrize(
    ("terminal", "protocol"),
    [
        (Terminal(), TerminalImageProtocol.NONE),
        (Terminal(term="xterm-256color", program="Apple_Terminal"), TerminalImageProtocol.NONE),
        (Terminal(program="iTerm.app"), TerminalImageProtocol.ITERM2),
        (Terminal(program="WezTerm"), TerminalImageProtocol.ITERM2),
        (Terminal(term="xterm-kitty", kitty_window_id="1"), TerminalImageProtocol.KITTY),
        (Terminal(program="ghostty"), TerminalImageProtocol.KITTY),
        (Terminal(program="iTerm.app", multiplexer="tmux,1,0"), TerminalImageProtocol.NONE),
        (Terminal(kitty_window_id="1", multiplexer="tmux,1,0"), TerminalImageProtocol.NONE),
    ],
)
def test_only_known_terminals_get_images(
    terminal: Terminal, protocol: TerminalImageProtocol
) -> None:
    """Unknown terminals and multiplexers get none."""
    assert detect_protocol(terminal) is protocol


def test_a_kitty_image_is_whole_and_in_small_pieces() -> None:
    """The pieces are at most 4096 characters, and together they are the file."""
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", render(PNG, TerminalImageProtocol.KITTY))
    assert base64.b64decode("".join(payload for _, payload in pieces)) == PNG.data
    assert max(len(payload) for _, payload in pieces) <= 4096
    assert [keys.rpartition("m=")[2] for keys, _ in pieces] == ["1"] * (len(pieces) - 1) + ["0"]


def test_an_iterm_image_is_whole() -> None:
    """One sequence with the file inside."""
    sequence = render(JPEG, TerminalImageProtocol.ITERM2)
    assert base64.b64encode(JPEG.data).decode() + "\a" in sequence


@pytest.mark.parametrize("protocol", [TerminalImageProtocol.ITERM2, TerminalImageProtocol.KITTY])
def test_the_cursor_comes_back(protocol: TerminalImageProtocol) -> None:
    """The preview is shown above the bar, and the bar stays as it is."""
    sequence = render(PNG, protocol)
    assert sequence.startswith(f"\x1b7\x1b[{ROWS}A\r")
    assert sequence.endswith("\x1b8")


def test_what_a_terminal_cannot_show_is_not_sent() -> None:
    """Kitty supports only PNG, and most terminals support no images."""
    assert render(JPEG, TerminalImageProtocol.KITTY) == ""
    assert render(PNG, TerminalImageProtocol.NONE) == ""
