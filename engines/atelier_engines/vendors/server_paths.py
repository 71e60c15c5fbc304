"""Hides the paths of files on a server in its error messages, which go to callers."""

from __future__ import annotations

import re

_QUOTED = re.compile(r"""(['"])(?:[A-Za-z]:)?[\\/][^'"]*\1""")
_BARE = re.compile(r"""(?<![\w.:/\\])(?:[A-Za-z]:[\\/]|[\\/]{1,2})[\w.~-]+[\\/][^\s'",;)\]]*""")
_LAST = re.compile(r"(?<=not found at )\S.*$")  # to the end, since it may have spaces
_SHOWN = "(a path on the server)"


def hide_paths(text: str) -> str:
    """The text with every absolute path, of Linux or Windows, replaced; names of files and URLs stay."""
    text = _LAST.sub(_SHOWN, text)
    return _BARE.sub(_SHOWN, _QUOTED.sub(_SHOWN, text))
