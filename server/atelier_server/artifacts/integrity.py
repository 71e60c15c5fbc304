"""Compares stored bytes with the size and the SHA-256 that were recorded when they were written."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

from atelier.v1.artifact_pb2 import Artifact
from atelier_server.errors import DataLossError


async def require_intact(artifact: Artifact, data: bytes) -> bytes:
    """The bytes, if they are those that were stored.

    Raises:
        DataLossError: size or SHA-256 differ.
    """
    digest = await asyncio.to_thread(hashlib.sha256, data)
    _compare(artifact, len(data), digest.hexdigest())
    return data


async def verify_stream(
    artifact: Artifact, chunks: AsyncGenerator[bytes], offset: int
) -> AsyncGenerator[bytes]:
    """The bytes from `offset` on; `chunks` has all of them, since the digest is that of the whole.

    The last chunk follows only when everything has been compared, so that damaged bytes are never complete.

    Raises:
        DataLossError: size or SHA-256 differ.
    """
    digest, size, checked = hashlib.sha256(), 0, b""
    async with aclosing(chunks):
        async for chunk in chunks:
            start, size = size, size + len(chunk)
            if size > artifact.size:
                break
            if checked:
                yield checked
            await asyncio.to_thread(digest.update, chunk)
            checked = chunk[max(0, offset - start) :]
    _compare(artifact, size, digest.hexdigest())
    if checked:
        yield checked


def _compare(artifact: Artifact, size: int, sha256: str) -> None:
    if size != artifact.size:
        stored = f"more than {artifact.size}" if size > artifact.size else str(size)
        msg = (
            f"artifact {artifact.id!r} is damaged: it has {stored} bytes instead of {artifact.size}"
        )
        raise DataLossError(msg)
    if sha256 != artifact.sha256:
        msg = f"artifact {artifact.id!r} is damaged: the SHA-256 of its bytes has changed; make or upload it again"
        raise DataLossError(msg)
