"""The form of the log: one event a line, named by a stable snake_case key, with everything that varies in fields.

Every module logs through `logging`, so that engines need no library for it:

    _log = logging.getLogger(__name__)
    _log.info("engine_ready", extra={"engine": name, "seconds": 1.2})

The key is a constant that operators can search and count; it never changes with the data. Fields are short: ids,
names, numbers, the text of an error. Prompts and other content of requests are never logged: what an error quotes of
them, as remote services do, is taken out when a line is written. Every line of a call has
its service, method, tenant and request id, and every line of a generation its id, request id, tenant, engine and
attempt: they are looked up when a line is written, so that a call without lines costs nothing. With `format: json`
a line is a JSON object of `timestamp`, `level`, `logger`, `event` and the fields; with `console` it is the same, made
for reading.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

Describe = Callable[[], Mapping[str, object]]
_describe: ContextVar[Describe | None] = ContextVar("describe", default=None)
Hide = Callable[[str], str]
"""Returns a text without what it quotes of a request."""
_hide: ContextVar[Hide | None] = ContextVar("hide", default=None)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes that every record has; all others are fields of its event."""
_GRPC = "grpc._cython.cygrpc"
_CREDENTIALS = re.compile(
    r"(?<=://)[^/\s?#@\"'<>]*@"
)  # of a URL, which libraries name in their errors
_encode = json.JSONEncoder(default=str).encode


@contextmanager
def log_fields(describe: Describe, hide: Hide) -> Generator[None]:
    """Add the fields that `describe` returns to every line of this context, and of the tasks that start in it.

    No line has more of an error than `hide` leaves.
    """
    token, hide_token = _describe.set(describe), _hide.set(hide)
    try:
        yield
    finally:
        _describe.reset(token)
        _hide.reset(hide_token)


def add_log_fields(describe: Describe) -> None:
    """Add the fields that `describe` returns to every line of the current task from now on."""
    _describe.set(describe)


def hide_in_log(hide: Hide) -> None:
    """Let no line of the current task have more of an error than `hide` leaves, from now on."""
    _hide.set(hide)


def configure(*, level: str, form: str, packages: Sequence[str]) -> None:
    """Send logs to standard error, in the form `json` or `console`.

    Events of `packages` are logged from this level on, those of all others from WARNING on.
    """
    _collect_no_more_than_is_written()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else _ConsoleFormatter())
    wanted = logging.getLevelNamesMapping()[level.upper()]
    # Below WARNING, libraries write what they work on, which may be a caller's prompt: Pillow does.
    logging.basicConfig(handlers=[handler], level=max(logging.WARNING, wanted), force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger(_GRPC).addFilter(_is_no_hang_up)
    for name in packages:
        logging.getLogger(name).setLevel(wanted)


def _collect_no_more_than_is_written() -> None:
    """Leave out of records what no line has.

    Source: Python's Logging HOWTO, "Optimization", which names these attributes.
    """
    logging._srcfile = None  # noqa: SLF001 (public by that page)
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _is_no_hang_up(record: logging.LogRecord) -> bool:
    """Whether gRPC reports anything but that the other side has left while a message was sent to it."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ != "ExecuteBatchError"


def _collect(record: logging.LogRecord) -> dict[str, object]:
    """Everything on the line but an exception."""
    describe = _describe.get()
    fields = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    if "error" in fields:
        fields["error"] = _hide_quotations(str(fields["error"]))
    event = record.getMessage()
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
    return {
        "timestamp": time.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event if event.isidentifier() else _hide_quotations(event),
        **(describe() if describe is not None else {}),
        **fields,
    }


def _hide_quotations(text: str) -> str:
    """The text without what it quotes of the request that is worked on, and without passwords in addresses."""
    if "@" in text:
        text = _CREDENTIALS.sub("", text)
    hide = _hide.get()
    return text if hide is None else hide(text)


class _JsonFormatter(logging.Formatter):
    """Writes JSON. Half of the time of a line is saved by doing no more than that."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = _collect(record)
        if record.exc_info:
            line["exception"] = _hide_quotations(self.formatException(record.exc_info))
        return _encode(line)


class _ConsoleFormatter(logging.Formatter):
    """Writes for people."""

    def __init__(self) -> None:
        """Use colours on a terminal."""
        super().__init__()
        import structlog  # noqa: PLC0415 (servers that write JSON need not wait for it)

        self._render: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback below it."""
        line = _collect(record)
        if record.exc_info:
            line["exception"] = _hide_quotations(self.formatException(record.exc_info))
        return str(self._render(None, record.levelname.lower(), line))
