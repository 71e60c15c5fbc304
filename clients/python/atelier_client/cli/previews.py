"""Small pictures inside the terminal, where it is known to show them.

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
    """How a terminal takes pictures."""

    ITERM2 = "iterm2"
    KITTY = "kitty"
    NONE = "none"


def protocol_of(terminal: Terminal) -> TerminalImageProtocol:
    """What a terminal can show; NONE unless it says plainly that it can."""
    if terminal.multiplexer:
        return TerminalImageProtocol.NONE
    if terminal.kitty_window or terminal.program in _KITTY_PROGRAMS:
        return TerminalImageProtocol.KITTY
    return (
        TerminalImageProtocol.ITERM2
        if terminal.program in _ITERM_PROGRAMS
        else TerminalImageProtocol.NONE
    )


def render(preview: Preview, protocol: TerminalImageProtocol) -> str:
    """The control sequence that draws a preview over the ROWS lines above the cursor's.

    The cursor ends where it was. Empty when the protocol cannot carry the preview: Kitty
    takes PNG alone.
    """
    match protocol:
        case TerminalImageProtocol.ITERM2:
            picture = _iterm(preview.data)
        case TerminalImageProtocol.KITTY if preview.media_type == "image/png":
            picture = _kitty(preview.data)
        case _:
            return ""
    return f"{_SAVE}\x1b[{ROWS}A\r{picture}{_RESTORE}"


def _iterm(data: bytes) -> str:
    encoded = base64.b64encode(data).decode()
    return (
        f"\x1b]1337;File=inline=1;size={len(data)};height={ROWS};preserveAspectRatio=1:{encoded}\a"
    )


def _kitty(data: bytes) -> str:
    """One picture under the fixed id 1, so that each preview takes the place of the one before."""
    encoded = base64.b64encode(data).decode()
    chunks = [encoded[at : at + _KITTY_CHUNK] for at in range(0, len(encoded), _KITTY_CHUNK)]
    head = f"a=T,f=100,i=1,p=1,q=2,C=1,r={ROWS},"
    return "".join(
        f"\x1b_G{head if number == 0 else ''}m={int(number < len(chunks) - 1)};{chunk}\x1b\\"
        for number, chunk in enumerate(chunks)
    )
