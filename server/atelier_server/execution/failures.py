"""What a failed generation says of the error that ended it."""

from __future__ import annotations

import logging

from atelier.v1 import generation_pb2 as pb
from atelier_server.errors import CODES, failure_from_error

_log = logging.getLogger(__name__)


def to_failure(error: BaseException) -> pb.Failure:
    """The failure; the text of an unknown error stays in the log."""
    if isinstance(error, TimeoutError):
        return pb.Failure(
            reason="DEADLINE_EXCEEDED",
            code=CODES["DEADLINE_EXCEEDED"].value[0],
            message="timed out while running",
            retryable=True,
        )
    if not isinstance(error, Exception):
        raise error  # the interpreter is shutting down
    failure = failure_from_error(error)
    if failure.reason == "INTERNAL":
        _log.error("internal_error", exc_info=error)
    return failure
