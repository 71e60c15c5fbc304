"""What a failed generation says of the error that ended it."""

from __future__ import annotations

import logging

from atelier.v1 import generation_pb2 as pb
from atelier_server.engines.hidden_paths import Hide
from atelier_server.errors import CODES, failure_from_error

_log = logging.getLogger(__name__)


def to_failure(error: BaseException, hide: Hide) -> pb.Failure:
    """The failure; the text of an unknown error, and what `hide` takes out, stay in the log."""
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
    told = hide(failure.message)
    if told != failure.message:
        _log.warning("error_shortened", extra={"error": failure.message})
        failure.message = told
    return failure
