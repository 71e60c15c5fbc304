"""Finds settings that are valid and will surprise the callers."""

from __future__ import annotations

from collections.abc import Iterator

from atelier_engines.decoding.budget import DECODING_BYTES_PER_PIXEL
from atelier_server.config.limit_settings import LimitSettings
from atelier_server.config.settings import Settings

CLIENT_BYTES = 4 * 2**20
"""Size of the largest message that a gRPC client receives, unless it is told otherwise."""
RECORD_BYTES = 2**19
"""Room for everything in an answer beside its inline outputs: task, receipt, and the framing of the outputs."""
_CHUNK_BYTES = 2**19 + 64  # of an upload, with its framing


def find_warnings(settings: Settings) -> list[str]:
    """One line for each such setting: its key, its value, and what will happen."""
    return list(_check_limits(settings.limits))


def _check_limits(limits: LimitSettings) -> Iterator[str]:
    if limits.max_inline_bytes > CLIENT_BYTES - RECORD_BYTES:
        yield (
            f"limits.max_inline_bytes: {limits.max_inline_bytes} is more than {CLIENT_BYTES - RECORD_BYTES}: clients "
            f"that receive messages of at most {CLIENT_BYTES} bytes, which is the default of gRPC, will fail after the "
            "work is done, unless they raise their limit"
        )
    if limits.max_message_bytes < _CHUNK_BYTES:
        yield (
            f"limits.max_message_bytes: {limits.max_message_bytes} is less than {_CHUNK_BYTES}: uploads in chunks of "
            "512 KiB, which the contract allows, will fail"
        )
    needed = limits.max_input_pixels * DECODING_BYTES_PER_PIXEL
    if limits.max_decoding_bytes < needed:
        yield (
            f"limits.max_decoding_bytes: {limits.max_decoding_bytes} is less than {needed}, which an image of "
            f"limits.max_input_pixels ({limits.max_input_pixels}) takes: larger images than "
            f"{limits.max_decoding_bytes // DECODING_BYTES_PER_PIXEL} pixels will be refused"
        )
