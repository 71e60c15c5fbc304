"""Ctrl-C and SIGTERM as a KeyboardInterrupt that is not lost."""

from __future__ import annotations

import signal
import threading
from typing import NoReturn

_received = threading.Event()


def handle_interruptions() -> None:
    """Handle SIGTERM like Ctrl-C, so that `timeout` and supervisors cancel too.

    A Ctrl-C that whoever started the process has it ignore stays ignored.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt again once there was one.

    Python prints and drops an exception that a signal raises in a destructor or in a callback of an extension.
    """
    if _received.is_set():
        raise KeyboardInterrupt


def _interrupt(number: int, frame: object) -> NoReturn:
    _ = number, frame
    _received.set()
    raise KeyboardInterrupt
