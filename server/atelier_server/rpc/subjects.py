"""Shows who asked for generations, to those who may know."""

from __future__ import annotations

from collections.abc import Sequence

from atelier.v1.generation_pb2 import Generation
from atelier_server.auth.caller import ANONYMOUS, Caller
from atelier_server.store.protocol import Store


async def show_subjects(store: Store, caller: Caller, generations: Sequence[Generation]) -> None:
    """Write into each record, which is the caller's own tenant's, who asked for it; without the scope admin nothing."""
    if caller is ANONYMOUS or "admin" not in caller.scopes:
        return
    subjects = await store.find_subjects([generation.id for generation in generations])
    for generation in generations:
        generation.subject = subjects.get(generation.id, "")
