"""What makes two requests the same."""

from __future__ import annotations

import hashlib

from atelier.v1.generation_service_pb2 import GenerateRequest


def compute_digest(request: GenerateRequest) -> bytes:
    """Digest of everything in the request that determines the outputs; equal for a repeated request."""
    task = GenerateRequest()
    task.CopyFrom(request)
    for delivery in ("request_id", "response_mode", "inline_outputs", "priority"):
        task.ClearField(delivery)
    return hashlib.sha256(task.SerializeToString(deterministic=True)).digest()
