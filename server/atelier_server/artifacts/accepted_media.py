"""What may be uploaded: images that engines read, and audio; never documents that a browser would run."""

from __future__ import annotations

import re

from atelier_server.errors import InvalidRequestError, Violation

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/avif")
"""What is decoded, by its media type."""
_MARKUP = re.compile(rb"(\xef\xbb\xbf)?\s*<(\?xml|!doctype|!--|svg|html|script)", re.IGNORECASE)
"""The beginning of SVG, HTML and XML."""


def require_media(media_type: str, head: bytes) -> None:
    """Return if bytes that begin with these may be stored under the media type.

    Raises:
        InvalidRequestError: there are none, no engine reads the type, or they are a document of markup.
    """
    if not head:
        raise InvalidRequestError([Violation("chunk", "an upload must have bytes")])
    if media_type.startswith("image/") and media_type not in IMAGE_TYPES:
        message = f"must be {', '.join(IMAGE_TYPES)} or audio, not {media_type}"
        raise InvalidRequestError([Violation("header.media_type", message)])
    if _MARKUP.match(head):
        message = f"the bytes are a document of markup, not {media_type}"
        raise InvalidRequestError([Violation("chunk", message)])
