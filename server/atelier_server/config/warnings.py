"""Finds settings that are valid and will surprise callers or whoever runs the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from atelier_engines.decoding.budget import DECODING_BYTES_PER_PIXEL
from atelier_server.config.limit_settings import LimitSettings
from atelier_server.config.settings import Settings

CLIENT_BYTES = 4 * 2**20
"""Size of the largest message that a gRPC client receives, unless it is told otherwise."""
RECORD_BYTES = 2**19
"""Room for everything in an answer beside its inline outputs: task, receipt, and the framing of the outputs."""
_CHUNK_BYTES = 2**19 + 64  # of an upload, with its framing


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingWarning:
    """A setting, what will happen, and what prevents it."""

    key: str
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.key}: {self.text}; {self.remedy}"


def find_warnings(settings: Settings) -> list[SettingWarning]:
    """One for each such setting."""
    return [*_check_limits(settings.limits), *_check_stores(settings)]


def _check_stores(settings: Settings) -> Iterator[SettingWarning]:
    if settings.store.type == "postgres" and settings.artifacts.type == "directory":
        yield SettingWarning(
            key="artifacts.type",
            text="directory, while store.type is postgres: servers that share the database cannot read each other's "
            "files: what one has made or taken in is lost for the others",
            remedy="keep artifacts in a bucket (artifacts.type: s3), unless one server alone uses the database",
        )


def _check_limits(limits: LimitSettings) -> Iterator[SettingWarning]:
    if limits.max_inline_bytes > CLIENT_BYTES - RECORD_BYTES:
        yield SettingWarning(
            key="limits.max_inline_bytes",
            text=f"{limits.max_inline_bytes} is more than {CLIENT_BYTES - RECORD_BYTES}: clients "
            f"that receive messages of at most {CLIENT_BYTES} bytes, which is the default of gRPC, will fail after the "
            "work is done",
            remedy="lower it, or have them raise their limit",
        )
    if limits.max_message_bytes < _CHUNK_BYTES:
        yield SettingWarning(
            key="limits.max_message_bytes",
            text=f"{limits.max_message_bytes} is less than {_CHUNK_BYTES}: uploads in chunks of "
            "512 KiB, which the contract allows, will fail",
            remedy="raise it",
        )
    needed = limits.max_input_pixels * DECODING_BYTES_PER_PIXEL
    if limits.max_decoding_bytes < needed:
        yield SettingWarning(
            key="limits.max_decoding_bytes",
            text=f"{limits.max_decoding_bytes} is less than {needed}, which an image of "
            f"limits.max_input_pixels ({limits.max_input_pixels}) takes: larger images than "
            f"{limits.max_decoding_bytes // DECODING_BYTES_PER_PIXEL} pixels will be refused",
            remedy="raise it, or lower limits.max_input_pixels",
        )
