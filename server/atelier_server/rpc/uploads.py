"""Reads the stream of an upload: a header, then chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from atelier.v1.artifact_pb2 import UploadHeader
from atelier.v1.generation_service_pb2 import UploadArtifactRequest
from atelier_server.errors import InvalidRequestError, Violation
from atelier_server.rpc.validation import validate


async def header_of(requests: AsyncIterator[UploadArtifactRequest]) -> UploadHeader:
    """The header that an upload begins with.

    Raises:
        InvalidRequestError: it begins with something else, or the header is wrong.
    """
    first = await anext(aiter(requests), None)
    if first is None or first.WhichOneof("part") != "header":
        raise InvalidRequestError([Violation("header", "must be the first message of an upload")])
    validate(first)
    return first.header


async def chunks_of(requests: AsyncIterator[UploadArtifactRequest]) -> AsyncGenerator[bytes]:
    """The chunks that follow.

    Raises:
        InvalidRequestError: something else follows.
    """
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidRequestError([Violation("chunk", "must be all that follows the header")])
        yield request.chunk
