"""Blobs in a directory pass the suite that every blob store passes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from atelier_server.artifacts.blobs.base import BlobStore
from atelier_server.artifacts.blobs.filesystem import FileBlobStore
from tests.artifacts.conformance import BlobStoreConformance, ids_older_than


class TestFileBlobStore(BlobStoreConformance):
    """See BlobStoreConformance."""

    @pytest.fixture
    async def blobs(self, tmp_path: Path) -> BlobStore:
        """In a directory that it creates."""
        return FileBlobStore(tmp_path / "deep" / "artifacts")


async def test_a_write_that_was_killed_is_listed_and_deleted(tmp_path: Path) -> None:
    """Its temporary file bears the id of the blob."""
    blobs = FileBlobStore(tmp_path)
    (tmp_path / "killed.partial").write_bytes(b"half")
    assert await ids_older_than(blobs, time.time() + 60) == ["killed"]
    await blobs.delete("killed")
    assert not (tmp_path / "killed.partial").exists()
