"""The clock of deadlines and retention: Unix time that a change of the wall clock does not move.

It shows the wall clock as it was when the process started, advanced by the monotonic clock. Times on it can be stored
and compared in a later process, and their differences within a process are true durations. Timestamps for people and
callers are read from the wall clock instead, which may be corrected at any time.
"""

from __future__ import annotations

import time

from google.protobuf.timestamp_pb2 import Timestamp

STEADY_OFFSET = time.time() - time.monotonic()  # the one reading that all others stand on
"""Steady time less monotonic time, in seconds."""


def steady_time() -> float:
    """Seconds since 1970, as of the start of the process plus the time that has passed since."""
    return STEADY_OFFSET + time.monotonic()


def current_timestamp() -> Timestamp:
    """The time by the wall clock in whole microseconds, for people and callers."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanoseconds // 1000 * 1000)
