"""Limits of what callers send and get, as a section of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from atelier_engines.config import Section


class LimitSettings(Section):
    """Limits of requests and responses."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "message_bytes": "max_message_bytes",
        "inline_bytes": "max_inline_bytes",
        "upload_bytes": "max_upload_bytes",
        "input_pixels": "max_input_pixels",
        "concurrent_streams": "max_concurrent_streams",
    }

    max_message_bytes: int = Field(
        16 * 2**20, ge=2**16, le=2**31 - 1, description="Maximum size of one request message."
    )
    max_receiving_bytes: int = Field(
        512 * 2**20,
        ge=2**16,
        le=2**50,
        description="Memory in bytes for requests that arrive and are not accepted yet, of all callers together; one "
        "tenant may have half of it, and its uploads a quarter. A request takes max_message_bytes until it has "
        "arrived, for its size is not known before, and then its size. Calls wait 10 s for it, and are then rejected "
        "with TOO_MANY_BYTES. Taking requests apart needs up to three times as much.",
    )
    max_sending_bytes: int = Field(
        256 * 2**20,
        ge=2**16,
        le=2**50,
        description="Memory in bytes for answers over 16 KiB that their callers have not taken yet, of all callers "
        "together; one tenant may have half of it, one connection a quarter. An answer takes twice its size until its "
        "last byte has left, a message of a stream four times. Calls wait 20 s for it, and are then rejected with "
        "TOO_MANY_BYTES.",
    )
    max_inline_bytes: int = Field(
        2 * 2**20,
        ge=0,
        le=2**31 - 1,
        description="Maximum size of all inline outputs in one response. gRPC clients receive at most 4 MiB unless "
        "they are told otherwise: above 3670016 (3.5 MiB, since the rest of the response needs room) their calls may "
        "fail after the work is done, and `atelier config check` warns.",
    )
    max_upload_bytes: int = Field(
        256 * 2**20, ge=1, le=2**50, description="Maximum size of an uploaded artifact."
    )
    max_input_pixels: int = Field(
        64 * 10**6, ge=1, le=10**12, description="Maximum number of pixels of an input image."
    )
    max_decoding_bytes: int = Field(
        1536 * 2**20,
        ge=2**24,
        le=2**50,
        description="Memory in bytes for input images and audio that are being decoded and used, of all tasks "
        "together; tasks wait for it. An image takes 20 bytes per pixel and the size of its file while it is decoded, "
        "and 4 bytes per pixel until its task ends, a second of audio 0.8 to 2.3 MB; a task that would need more than "
        "all of it is refused.",
    )
    max_concurrent_streams: int = Field(
        1024,
        ge=1,
        le=10**6,
        description="Maximum number of concurrent calls on one connection that may last for long, such as Generate, "
        "StreamProgress and transfers; one more is rejected with TOO_MANY_CALLS. An eighth as many streams, at least "
        "16, are kept for the others, so that CancelGeneration always gets through. Unix sockets have no such limit.",
    )
    abandoned_grace_seconds: float = Field(
        30,
        ge=0,
        le=86400,
        description="Seconds for which a waiting generation stays in its queue after its last call is lost; a call "
        "that attaches meanwhile takes it over. A running generation is stopped at once.",
    )
    max_silence_seconds: float = Field(
        15,
        ge=0.1,
        le=300,
        description="Seconds without an event after which StreamProgress sends the last event again, so that proxies "
        "do not close the stream as idle.",
    )
    min_ping_interval_seconds: float = Field(
        5,
        ge=0.1,
        le=300,
        description="Shortest interval of a client's HTTP/2 keepalive pings, with and without running calls. "
        "A connection that pings more often is closed with `too_many_pings`.",
    )
