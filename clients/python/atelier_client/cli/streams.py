"""Standard output and standard error that keep a command going, whatever is behind them."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


class _ForgivingText(io.TextIOBase):
    """Text of a file descriptor, written at once; what cannot be written is dropped."""

    errors = "replace"

    def __init__(self, descriptor: int, encoding: str) -> None:
        self._descriptor = descriptor
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a property there, too, which the types hide
        """That of the stream in whose place this one is."""
        return self._encoding

    def writable(self) -> bool:
        """Always."""
        return True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def write(self, text: str) -> int:
        """Write everything, or drop it: progress is not worth losing what was made."""
        data = text.encode(self._encoding, self.errors)
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            pass
        return len(text)


def forgive_streams() -> None:
    """Let a closed or full standard error lose its text only, and print what an encoding lacks as a question mark."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    sys.stderr = _forgive(sys.stderr)


def _forgive(stream: TextIO | None) -> TextIO:
    if stream is None:  # it was closed before the process began
        return io.StringIO()
    forgiving: TextIO = _ForgivingText(stream.fileno(), stream.encoding)  # type: ignore[assignment]  # it is one
    return forgiving
