"""The form of the log: one event a line, named by a stable snake_case key, with everything that varies in fields.

Every module logs through `logging`, so that engines need no library for it:

    _log = logging.getLogger(__name__)
    _log.info("engine_ready", extra={"engine": name, "seconds": 1.2})

The key is a constant that operators can search and count; it never changes with the data. Fields are short: ids,
names, numbers, the text of an error. Prompts and other content of requests are never logged. structlog's
`bound_contextvars` adds fields to every event inside it, as the worker does with the generation. With `format: json`
a line is a JSON object of `timestamp`, `level`, `logger`, `event` and the fields; with `console` it is the same, made
for reading.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import structlog

_PROCESSORS = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.ExtraAdder(),
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def configure(*, level: str, form: str, packages: Sequence[str]) -> None:
    """Send logs to standard error, in the form `json` or `console`.

    Events of `packages` are logged from this level on, those of all others from WARNING on.
    """
    if form == "json":
        last: list[structlog.typing.Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_PROCESSORS,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    wanted = logging.getLevelNamesMapping()[level.upper()]
    # Below WARNING, libraries write what they work on, which may be a caller's prompt: Pillow does.
    logging.basicConfig(handlers=[handler], level=max(logging.WARNING, wanted), force=True)
    logging.captureWarnings(capture=True)
    for name in packages:
        logging.getLogger(name).setLevel(wanted)
