"""Writes down who did what: one JSON line for each call that acts on something, in a file of its own."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from logging import LogRecord, makeLogRecord
from logging.handlers import WatchedFileHandler
from pathlib import Path
from types import TracebackType
from typing import IO

import grpc

from atelier_server.errors import PermissionDeniedError
from atelier_server.rpc.interceptors.chain import Call, Context, current_call
from atelier_server.rpc.interceptors.observe import find_end

_SERVICE = "atelier.v1.GenerationService"
_QUESTIONS = frozenset({"GetCapabilities", "Health", "PlanGeneration", "ListGenerations"})
"""Calls that act on nothing; they are written down only if they are refused."""
_REFUSED = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})


class _File(WatchedFileHandler):
    """A file that its owner alone reads; it is opened again when it was moved away, as logrotate does."""

    def format(self, record: LogRecord) -> str:
        """The line, which is ready."""
        return str(record.msg)

    def _open(self) -> IO[str]:  # type: ignore[override]  # typeshed says TextIOWrapper
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")


class AuditLog:
    """An interceptor: writes a line when a call has ended."""

    def __init__(self, path: Path) -> None:
        """Append to this file.

        Raises:
            OSError: it cannot be written.
        """
        self._file = _File(str(path))

    def __call__(self, call: Call, context: Context) -> _AuditedCall:
        """Write about one call."""
        return _AuditedCall(self, call, context)

    def write(self, call: Call, code: grpc.StatusCode, peer: str) -> None:
        """Write the line of a call that has ended so."""
        is_known = code is not grpc.StatusCode.UNAUTHENTICATED
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "tenant": call.caller.tenant if is_known else "",
            "subject": call.caller.subject if is_known else "",
            "peer": peer,
            "method": call.method,
            "target": call.accepted.generation_id or call.request.target,
            "request_id": call.request.request_id or call.accepted.request_id,
            "code": code.name,
        }
        self._file.handle(makeLogRecord({"msg": json.dumps(line)}))


class _AuditedCall:
    """Writes about one call."""

    __slots__ = ("_call", "_context", "_log")

    def __init__(self, log: AuditLog, call: Call, context: Context) -> None:
        self._log, self._call, self._context = log, call, context

    async def __aenter__(self) -> Call:
        return self._call

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._call.service != _SERVICE:
            return
        if isinstance(error, PermissionDeniedError):  # before the request was received
            await self._call.request.learn_names(current_call().caller.tenant)
        code = find_end(error, self._call, self._context)
        if self._call.method not in _QUESTIONS or code in _REFUSED:
            self._log.write(current_call(), code, str(self._context.peer()))
