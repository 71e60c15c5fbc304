"""The exit codes of `atelier`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from atelier_client import errors
from atelier_client.errors import AtelierError


class ExitCode(IntEnum):
    """Exit codes of `atelier`."""

    OK = 0
    FAILED = 1
    INVALID = 2
    UNAVAILABLE = 3
    NOT_FOUND = 4
    CANCELLED = 5
    INTERRUPTED = 130


EPILOG = """
Exit codes:

\b
    0  success
    1  the generation failed, or the server is not healthy
    2  the command or the request is invalid
    3  try again later: unreachable, unavailable, quota or deadline exceeded
    4  no such engine, generation or artifact
    5  the generation was cancelled
  130  interrupted by Ctrl-C or SIGTERM
"""

_CODES: Mapping[type[AtelierError], ExitCode] = {
    errors.InvalidRequestError: ExitCode.INVALID,
    errors.UnsupportedError: ExitCode.INVALID,
    errors.ConflictError: ExitCode.INVALID,
    errors.AccessDeniedError: ExitCode.INVALID,
    errors.OutOfMemoryError: ExitCode.INVALID,
    errors.TlsError: ExitCode.INVALID,
    errors.QuotaError: ExitCode.UNAVAILABLE,
    errors.DeadlineError: ExitCode.UNAVAILABLE,
    errors.UnavailableError: ExitCode.UNAVAILABLE,
    errors.ServerUnreachableError: ExitCode.UNAVAILABLE,
    errors.NotFoundError: ExitCode.NOT_FOUND,
    errors.GenerationCancelledError: ExitCode.CANCELLED,
    errors.GenerationFailedError: ExitCode.FAILED,
    errors.ContentFilteredError: ExitCode.FAILED,
    errors.TransferError: ExitCode.FAILED,
    errors.NotDownloadedError: ExitCode.FAILED,
    errors.MissingPackageError: ExitCode.FAILED,
    errors.BatchError: ExitCode.FAILED,
    errors.ClientClosedError: ExitCode.FAILED,
    errors.InternalError: ExitCode.FAILED,
}


def exit_code_for(error: AtelierError) -> ExitCode:
    """The exit code for an error."""
    return _CODES.get(type(error), ExitCode.FAILED)
