"""Turns data URIs in a request into attachments, which everything after that knows."""

from __future__ import annotations

import base64
from urllib.parse import unquote_to_bytes

from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_server.admission.media_sources import list_media_sources, name_field
from atelier_server.errors import InvalidRequestError, Violation

_SCHEME = "data:"


def attach_data_uris(request: GenerateRequest) -> None:
    """Replace every data URI among the request's media by an attachment with its bytes.

    Raises:
        InvalidRequestError: one has no data, or is not valid base64.
    """
    for path, source in list_media_sources(request).items():
        if source.uri[: len(_SCHEME)].lower() == _SCHEME:
            name = f"{_SCHEME}{path}"
            while name in request.attachments:
                name += "'"
            try:
                request.attachments[name] = decode_data_uri(source.uri)
            except ValueError as error:
                raise InvalidRequestError(
                    [Violation(f"{name_field(path)}.uri", str(error))]
                ) from error
            source.attachment = name


def decode_data_uri(uri: str) -> bytes:
    """The bytes of a data URI, whatever media type it states. Source: RFC 2397.

    Raises:
        ValueError: it has no data, or is not valid base64; the message is for the caller.
    """
    head, comma, text = uri.partition(",")
    if not comma:
        raise ValueError("a data URI needs a comma before its data")
    data = unquote_to_bytes(text)
    if head.lower().endswith(";base64"):
        try:
            data = base64.b64decode(data, validate=True)
        except ValueError as error:
            raise ValueError("the data URI is not valid base64") from error
    if not data:
        raise ValueError("the data URI has no data")
    return data
