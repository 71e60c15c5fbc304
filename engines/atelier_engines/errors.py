"""The errors that an engine may raise.

                                              whose fault
EngineError
├── InvalidTaskError         INVALID_TASK         task     the task is invalid for every engine
├── UnsupportedError         UNSUPPORTED          task     this engine lacks a feature the task needs
├── ContentFilteredError     CONTENT_FILTERED     task     a safety check rejected it
├── TaskFailedError          TASK_FAILED          task     what the task selects (a LoRA, a control, a node) failed
├── OutOfMemoryError         OUT_OF_MEMORY        task     too large for the device
├── ModelMissingError        MODEL_MISSING        task     weights that the task names are absent or broken
├── EngineQuotaError         ENGINE_QUOTA         account  the vendor's quota or balance is used up
├── EngineUnavailableError   ENGINE_UNAVAILABLE   engine   no work was begun: loading, unreachable, full
├── EngineUncertainError     ENGINE_UNCERTAIN     engine   it is unknown whether work was begun
├── EngineTimeoutError       ENGINE_TIMEOUT       engine   the work took longer than allowed; task if it made steps
│   └── TaskTimeoutError     ENGINE_TIMEOUT       same     it was stopped here, so another engine may do it
└── EngineFailedError        ENGINE_FAILED        engine   the work was begun and failed
    └── JobStoppedError      ENGINE_FAILED        others   somebody stopped the job at the service

A fault of the engine says that other tasks would fail too: only those count for the circuit breaker. Everything that
is not an EngineError is a fault of the engine, an exit or a CancelledError that nobody asked for included.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class Reason(Enum):
    """The reason code of an engine's error."""

    INVALID_TASK = "INVALID_TASK"
    UNSUPPORTED = "UNSUPPORTED"
    CONTENT_FILTERED = "CONTENT_FILTERED"
    TASK_FAILED = "TASK_FAILED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    MODEL_MISSING = "MODEL_MISSING"
    ENGINE_QUOTA = "ENGINE_QUOTA"
    ENGINE_UNAVAILABLE = "ENGINE_UNAVAILABLE"
    ENGINE_UNCERTAIN = "ENGINE_UNCERTAIN"
    ENGINE_TIMEOUT = "ENGINE_TIMEOUT"
    ENGINE_FAILED = "ENGINE_FAILED"


class EngineError(Exception):
    """Base of all; the message is for the caller and says what to change."""

    reason: ClassVar[Reason]
    retryable: ClassVar[bool] = False
    """Whether the same task may succeed later on the same engine."""
    repeatable: ClassVar[bool] = False
    """Whether another attempt is safe: no work was begun, or the work that was begun is known to have failed."""
    engine_at_fault: ClassVar[bool] = False
    """Whether other tasks would fail too; faults of the task, of the account, or of others at the service do not."""


class InvalidTaskError(EngineError):
    """The task cannot be done by anyone as it stands."""

    reason = Reason.INVALID_TASK

    def __init__(self, field: str, message: str) -> None:
        """Name the `field` of the task at fault as the contract does (`controls[0].image`)."""
        super().__init__(message)
        self.field = field


class UnsupportedError(EngineError):
    """The engine lacks a feature that the task needs; others may have it."""

    reason = Reason.UNSUPPORTED

    def __init__(self, feature: str, message: str) -> None:
        """Name the missing `feature` as its enum does, or the field that needs it."""
        super().__init__(message)
        self.feature = feature


class ContentFilteredError(EngineError):
    """A safety check, ours or a vendor's, rejected the prompt or the image."""

    reason = Reason.CONTENT_FILTERED


class TaskFailedError(EngineError):
    """The work failed because of what the task selects, such as a LoRA or a control; tasks without it succeed."""

    reason = Reason.TASK_FAILED
    repeatable = True


class OutOfMemoryError(EngineError):
    """The task is too large for the device; the message names the largest size that fits."""

    reason = Reason.OUT_OF_MEMORY
    repeatable = True


class ModelMissingError(EngineError):
    """Weights are absent or broken; the message says which places were searched."""

    reason = Reason.MODEL_MISSING
    repeatable = True


class EngineQuotaError(EngineError):
    """The vendor's quota, rate or balance is used up."""

    reason = Reason.ENGINE_QUOTA
    retryable = True
    repeatable = True


class EngineUnavailableError(EngineError):
    """No work was begun: the engine is loading, unreachable or overloaded."""

    reason = Reason.ENGINE_UNAVAILABLE
    engine_at_fault = True
    retryable = True
    repeatable = True

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0) -> None:
        """Include the time after which to retry."""
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class EngineUncertainError(EngineError):
    """A paid request may or may not have arrived, so neither it nor another engine may be tried."""

    reason = Reason.ENGINE_UNCERTAIN
    engine_at_fault = True


class EngineTimeoutError(EngineError):
    """The work took longer than allowed, and may still go on at a vendor."""

    reason = Reason.ENGINE_TIMEOUT
    engine_at_fault = True
    retryable = True


class TaskTimeoutError(EngineTimeoutError):
    """The work took longer than allowed and was stopped here: another engine may do it."""

    repeatable = True


class EngineFailedError(EngineError):
    """The work was begun and is known to have failed."""

    reason = Reason.ENGINE_FAILED
    engine_at_fault = True
    retryable = True
    repeatable = True


class JobStoppedError(EngineFailedError):
    """Somebody stopped the job at the service, which works: its operator, or another user of it."""

    engine_at_fault = False
