"""Opens the blob store that the configuration names."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from atelier_server.artifacts.blobs.base import BlobStore
from atelier_server.artifacts.blobs.filesystem import FileBlobStore
from atelier_server.config.artifact_settings import ArtifactSettings
from atelier_server.config.settings import Settings
from atelier_server.errors import MissingPackageError


def watched_directory(settings: Settings) -> Path:
    """The directory whose file system must have room before work is accepted."""
    local = settings.artifacts.type == "directory"
    return settings.data_dir / "artifacts" if local else settings.data_dir


def open_blobs(settings: Settings, stack: AsyncExitStack) -> BlobStore:
    """The store of the settings; what must be closed at the end is closed by `stack`.

    Raises:
        MissingPackageError: it needs a package that is not installed.
    """
    if settings.artifacts.type == "s3":
        return _open_bucket(settings.artifacts, stack)
    flush = settings.store.synchronous == "FULL"
    return FileBlobStore(settings.data_dir / "artifacts", flush=flush)


def _open_bucket(settings: ArtifactSettings, stack: AsyncExitStack) -> BlobStore:
    try:
        from atelier_server.artifacts.blobs.bucket import BucketBlobStore  # noqa: PLC0415 (an extra)
    except ImportError as error:
        msg = "artifacts of type s3 need one more package: pip install 'atelier-server[s3]'"
        raise MissingPackageError(msg) from error
    bucket = BucketBlobStore(settings)
    stack.callback(bucket.close)
    return bucket
