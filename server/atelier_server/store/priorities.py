"""Which generations of a tenant go first."""

from __future__ import annotations

from atelier.v1.generation_pb2 import Generation, Priority
from atelier.v1.generation_service_pb2 import GenerateRequest

PATIENCE = 8.0
"""One with the priority BATCH is next once others of its tenant were given so many times its cost units before it."""


def is_batch(generation: Generation | GenerateRequest) -> bool:
    """Whether others of its tenant go first."""
    return generation.priority == Priority.PRIORITY_BATCH
