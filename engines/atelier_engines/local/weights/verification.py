"""Checks that files of weights are complete, and are what the hub has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import digests, safetensors_header

_SHA256 = re.compile("[0-9a-f]{64}")


def verify_files(files: Sequence[Path]) -> None:
    """Headers and lengths of all files, and the digests of those whose name is their digest.

    Source: huggingface_hub, "Understand caching": a large file lies under its SHA-256 in `blobs`,
    and its own name is a link there.
    """
    for path in files:
        safetensors_header.read(path)
        blob = path.resolve()
        if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name):
            digest = digests.digest_file(blob)
            if digest != blob.name:
                raise ModelMissingError(
                    f"{path} has the digest {digest} and not the {blob.name} that the hub has; "
                    f"delete {blob} and download it again"
                )
