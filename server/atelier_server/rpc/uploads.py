"""Reads the stream of an upload: a header, then chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from atelier.v1.artifact_pb2 import UploadHeader
from atelier.v1.generation_service_pb2 import UploadArtifactRequest
from atelier_server.errors import InvalidRequestError, Violation
from atelier_server.rpc.validation import validate


async def read_header(requests: AsyncIterator[UploadArtifactRequest]) -> UploadHeader:
    """Read the header, which is the first message of an upload.

    Raises:
        InvalidRequestError: it begins with something else, or the header is wrong.
    """
    first = await anext(aiter(requests), None)
    if first is None or first.WhichOneof("part") != "header":
        raise InvalidRequestError([Violation("header", "must be the first message of an upload")])
    validate(first)
    return first.header


async def read_chunks(requests: AsyncIterator[UploadArtifactRequest]) -> AsyncGenerator[bytes]:
    """Read the chunks after the header.

    Raises:
        InvalidRequestError: something else follows.
    """
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidRequestError([Violation("chunk", "only chunks may follow the header")])
        yield request.chunk
