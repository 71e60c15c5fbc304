"""Protobuf answers to the data of `results`: the only file that reads generation messages."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from atelier.v1 import artifact_pb2, generation_pb2
from atelier.v1 import generation_service_pb2 as service_pb2
from atelier_client.enums import (
    AttemptOutcome,
    CancelOutcome,
    Disposition,
    EngineState,
    Reproducibility,
    ServingStatus,
    State,
)
from atelier_client.results import (
    Artifact,
    Attempt,
    Audio,
    Cancellation,
    Cost,
    EngineHealth,
    Failure,
    Generation,
    Health,
    Image,
    Parameter,
    Plan,
    Preview,
    Progress,
    Receipt,
    Recipe,
    Timing,
)


def artifact(pb: artifact_pb2.Artifact) -> Artifact:
    """An artifact's description."""
    return Artifact(
        id=pb.id,
        media_type=pb.media_type,
        size=pb.size,
        sha256=pb.sha256,
        width=pb.image_size.width,
        height=pb.image_size.height,
        create_time=_time(pb, "create_time"),
        expire_time=_time(pb, "expire_time"),
    )


def generation(pb: generation_pb2.Generation) -> Generation:
    """A generation as it stands."""
    task = pb.audio if pb.WhichOneof("task") == "audio" else pb.image
    return Generation(
        id=pb.id,
        request_id=pb.request_id,
        state=State.from_number(pb.state),
        engine=pb.engine,
        prompt=task.prompt,
        outputs=tuple(_output(output) for output in pb.outputs),
        receipt=_receipt(pb.receipt) if pb.HasField("receipt") else None,
        failure=_failure(pb.failure) if pb.HasField("failure") else None,
        cancel_outcome=CancelOutcome.from_number(pb.cancel_outcome),
        create_time=_time(pb, "create_time"),
        start_time=_time(pb, "start_time"),
        end_time=_time(pb, "end_time"),
        expire_time=_time(pb, "expire_time"),
    )


def progress(pb: service_pb2.StreamProgressResponse) -> Progress:
    """One event of a generation's log."""
    return Progress(
        generation_id=pb.generation_id,
        sequence=pb.sequence,
        state=State.from_number(pb.state),
        time=_time(pb, "time"),
        engine=pb.engine,
        attempt=pb.attempt,
        stage=pb.stage,
        step=pb.step,
        steps=pb.steps,
        progress=pb.progress,
        queue_position=pb.queue_position if pb.HasField("queue_position") else None,
        expected_remaining_seconds=_seconds(pb, "estimated_remaining"),
        preview=_preview(pb.preview) if pb.HasField("preview") else None,
        generation=generation(pb.generation) if pb.HasField("generation") else None,
    )


def cancellation(pb: service_pb2.CancelGenerationResponse) -> Cancellation:
    """How a cancellation went."""
    return Cancellation(
        outcome=CancelOutcome.from_number(pb.outcome),
        stopped_at_step=pb.stopped_at_step,
        generation=generation(pb.generation),
    )


def plan(pb: service_pb2.PlanGenerationResponse) -> Plan:
    """What a request would do."""
    return Plan(
        engine=pb.engine,
        parameters=tuple(_parameter(parameter) for parameter in pb.parameters),
        cost=_cost(pb.cost) if pb.HasField("cost") else None,
        expected_wait_seconds=_seconds(pb, "estimated_wait"),
        expected_duration_seconds=_seconds(pb, "estimated_duration"),
        accepted=pb.accepted,
        rejection=_failure(pb.rejection) if pb.HasField("rejection") else None,
    )


def health(pb: service_pb2.HealthResponse) -> Health:
    """Whether the service and its engines can work now."""
    return Health(
        status=ServingStatus.from_number(pb.status),
        engines=tuple(
            EngineHealth(
                engine=engine.engine,
                state=EngineState.from_number(engine.state),
                message=engine.message,
            )
            for engine in pb.engines
        ),
        version=pb.version,
        uptime_seconds=_seconds(pb, "uptime") or 0.0,
    )


def _output(pb: generation_pb2.Output) -> Image | Audio:
    kind = Audio if pb.artifact.media_type.startswith("audio/") else Image
    return kind(
        artifact=artifact(pb.artifact),
        seed=pb.seed,
        content=pb.data or None,
        uri=pb.uri,
        flagged=pb.flagged,
    )


def _failure(pb: generation_pb2.Failure) -> Failure:
    return Failure(reason=pb.reason, code=pb.code, message=pb.message, retryable=pb.retryable)


def _receipt(pb: generation_pb2.Receipt) -> Receipt:
    return Receipt(
        parameters=tuple(_parameter(parameter) for parameter in pb.parameters),
        attempts=tuple(_attempt(attempt) for attempt in pb.attempts),
        timings=tuple(
            Timing(stage=timing.stage, seconds=_seconds(timing, "duration") or 0.0)
            for timing in pb.timings
        ),
        cost=_cost(pb.cost) if pb.HasField("cost") else None,
        reproducibility=Reproducibility.from_number(pb.reproducibility),
        recipe=_recipe(pb.recipe) if pb.HasField("recipe") else None,
        cached=pb.cached,
    )


def _parameter(pb: generation_pb2.Parameter) -> Parameter:
    return Parameter(
        name=pb.name,
        value=_json(pb.value) if pb.HasField("value") else None,
        requested=_json(pb.requested) if pb.HasField("requested") else None,
        disposition=Disposition.from_number(pb.disposition),
        explanation=pb.explanation,
    )


def _attempt(pb: generation_pb2.Attempt) -> Attempt:
    return Attempt(
        number=pb.number,
        engine=pb.engine,
        start_time=_time(pb, "start_time"),
        end_time=_time(pb, "end_time"),
        outcome=AttemptOutcome.from_number(pb.outcome),
        failure=_failure(pb.failure) if pb.HasField("failure") else None,
    )


def _recipe(pb: generation_pb2.Recipe) -> Recipe:
    return Recipe(
        engine_type=pb.engine_type,
        model=pb.model,
        weights_digest=pb.weights_digest,
        seeds=tuple(pb.seeds),
        versions=dict(sorted(pb.versions.items())),
    )


def _cost(pb: generation_pb2.Cost) -> Cost:
    return Cost(currency=pb.currency, amount=pb.amount)


def _preview(pb: generation_pb2.Preview) -> Preview:
    return Preview(
        media_type=pb.media_type, data=pb.data, width=pb.size.width, height=pb.size.height
    )


def _json(value: Value) -> object:
    """A JSON value; numbers without a fraction as integers, which Value cannot tell apart."""
    if value.WhichOneof("kind") == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    plain: object = MessageToDict(value)
    return plain


def _time(pb: Message, field: str) -> datetime | None:
    if not pb.HasField(field):
        return None
    stamp: Timestamp = getattr(pb, field)
    return stamp.ToDatetime(tzinfo=UTC)


def _seconds(pb: Message, field: str) -> float | None:
    if not pb.HasField(field):
        return None
    duration: Duration = getattr(pb, field)
    return duration.seconds + duration.nanos / 1e9
