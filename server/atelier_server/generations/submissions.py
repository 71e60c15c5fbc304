"""Puts together what the store is asked to accept."""

from __future__ import annotations

from atelier.v1.generation_pb2 import Generation, Priority, State
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_server.admission.media_sources import list_media_sources
from atelier_server.admission.parameters import describe_route
from atelier_server.admission.route import Route
from atelier_server.clock import current_timestamp, steady_time
from atelier_server.engines.task_codec import encode_task
from atelier_server.generations.callers import Sender
from atelier_server.ids import make_request_id
from atelier_server.store.protocol import Submission
from atelier_server.store.quotas import Allowance, Share


def build_submission(
    *,
    generation_id: str,
    request: GenerateRequest,
    sender: Sender,
    route: Route,
    digest: bytes,
    keep_remote_handle: bool,
    share: Share,
    allowance: Allowance | None,
) -> Submission:
    """What the store is asked to accept: the request as it came, and the decision in the record and as a task."""
    generation = Generation(
        id=generation_id,
        request_id=request.request_id or make_request_id(generation_id, digest),
        state=State.STATE_QUEUED,
        create_time=current_timestamp(),
        priority=request.priority or Priority.PRIORITY_INTERACTIVE,
    )
    describe_route(route, generation)
    if request.WhichOneof("task") == "image":
        generation.image.CopyFrom(request.image)
    else:
        generation.audio.CopyFrom(request.audio)
    timeout = request.timeout.ToMicroseconds() / 1e6 if request.HasField("timeout") else None
    return Submission(
        generation=generation,
        request=request,
        task=encode_task(route.resolved.task, route.resolved.finishing),
        caller=sender.caller,
        digest=digest,
        queue_limit=route.engine.queue_limit,
        share=share,
        allowance=allowance,
        deadline=None if timeout is None else steady_time() + timeout,
        inputs=tuple(
            source.artifact_id
            for source in list_media_sources(request).values()
            if source.artifact_id
        ),
        metadata=sender.metadata,
        named=bool(request.request_id),
        keep_remote_handle=keep_remote_handle,
    )
