"""Shows previews in terminals that support images.

Sources: iTerm2's inline images protocol, https://iterm2.com/documentation-images.html; Kitty's
terminal graphics protocol, https://sw.kovidgoyal.net/kitty/graphics-protocol/ (both 2026-11).
"""

from __future__ import annotations

import base64
from enum import Enum

from atelier_client.environment import Terminal
from atelier_client.results import Preview

ROWS = 12
"""Height of a preview in lines."""
_KITTY_CHUNK = 4096
_ITERM_PROGRAMS = {"iTerm.app", "iTerm2", "WezTerm"}
_KITTY_PROGRAMS = {"ghostty", "kitty"}
_SAVE, _RESTORE = "\x1b7", "\x1b8"


class TerminalImageProtocol(Enum):
    """The protocol by which a terminal shows images."""

    ITERM2 = "iterm2"
    KITTY = "kitty"
    NONE = "none"


def detect_protocol(terminal: Terminal) -> TerminalImageProtocol:
    """The image protocol of a terminal; NONE unless the terminal is known to support one."""
    if terminal.multiplexer:
        return TerminalImageProtocol.NONE
    if terminal.kitty_window_id or terminal.program in _KITTY_PROGRAMS:
        return TerminalImageProtocol.KITTY
    return (
        TerminalImageProtocol.ITERM2
        if terminal.program in _ITERM_PROGRAMS
        else TerminalImageProtocol.NONE
    )


def render(preview: Preview, protocol: TerminalImageProtocol) -> str:
    """The control sequence that draws a preview over the ROWS lines above the cursor.

    The cursor returns to its position. Empty if the protocol does not support the format of the
    preview: Kitty supports only PNG.
    """
    match protocol:
        case TerminalImageProtocol.ITERM2:
            image = _render_iterm(preview.data)
        case TerminalImageProtocol.KITTY if preview.media_type == "image/png":
            image = _render_kitty(preview.data)
        case _:
            return ""
    return f"{_SAVE}\x1b[{ROWS}A\r{image}{_RESTORE}"


def _render_iterm(data: bytes) -> str:
    encoded = base64.b64encode(data).decode()
    return (
        f"\x1b]1337;File=inline=1;size={len(data)};height={ROWS};preserveAspectRatio=1:{encoded}\a"
    )


def _render_kitty(data: bytes) -> str:
    """An image under the fixed id 1, so that each preview replaces the one before."""
    encoded = base64.b64encode(data).decode()
    chunks = [encoded[at : at + _KITTY_CHUNK] for at in range(0, len(encoded), _KITTY_CHUNK)]
    head = f"a=T,f=100,i=1,p=1,q=2,C=1,r={ROWS},"
    return "".join(
        f"\x1b_G{head if number == 0 else ''}m={int(number < len(chunks) - 1)};{chunk}\x1b\\"
        for number, chunk in enumerate(chunks)
    )
