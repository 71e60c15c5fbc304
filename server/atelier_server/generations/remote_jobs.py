"""Whether a cancelled generation that runs again can continue with what is left of its job at a remote service."""

from __future__ import annotations

from atelier.v1.generation_pb2 import Generation
from atelier_engines.capabilities import CancelSupport
from atelier_server.admission.route import Route


def continues_job(before: Generation, route: Route) -> bool:
    """Whether the route's engine is that of the earlier attempt, and keeps to the handle that is stored, if one is.

    There is one as long as a job runs on, or has ended without having been stopped.
    """
    capabilities = route.engine.capabilities
    keeps = capabilities.resumable or capabilities.cancel is CancelSupport.NONE
    return keeps and route.engine.name == before.engine
