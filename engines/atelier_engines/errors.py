"""The errors that an engine may raise.

EngineError
├── InvalidTaskError         INVALID_TASK         the task is invalid for every engine
├── UnsupportedError         UNSUPPORTED          this engine lacks a feature the task needs
├── ContentFilteredError     CONTENT_FILTERED     a safety check rejected it
├── OutOfMemoryError         OUT_OF_MEMORY        too large for the device
├── ModelMissingError        MODEL_MISSING        weights are absent or broken
├── EngineQuotaError         ENGINE_QUOTA         the vendor's quota or balance is used up
├── EngineUnavailableError   ENGINE_UNAVAILABLE   no work was begun: loading, unreachable, full
├── EngineUncertainError     ENGINE_UNCERTAIN     it is unknown whether work was begun
├── EngineTimeoutError       ENGINE_TIMEOUT       the work took longer than allowed
└── EngineFailedError        ENGINE_FAILED        the work was begun and failed
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class Reason(Enum):
    """The reason code of an engine's error."""

    INVALID_TASK = "INVALID_TASK"
    UNSUPPORTED = "UNSUPPORTED"
    CONTENT_FILTERED = "CONTENT_FILTERED"
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
    retryable = True
    repeatable = True

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0) -> None:
        """Include the time after which to retry."""
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class EngineUncertainError(EngineError):
    """A paid request may or may not have arrived, so neither it nor another engine may be tried."""

    reason = Reason.ENGINE_UNCERTAIN


class EngineTimeoutError(EngineError):
    """The work took longer than allowed, and may still go on at a vendor."""

    reason = Reason.ENGINE_TIMEOUT
    retryable = True


class EngineFailedError(EngineError):
    """The work was begun and is known to have failed."""

    reason = Reason.ENGINE_FAILED
    retryable = True
    repeatable = True
