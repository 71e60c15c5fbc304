"""Decodes the server's messages into `results` and `tasks`; engines are in `decoding_engines`."""

from __future__ import annotations

from google.protobuf.struct_pb2 import Value

from atelier.v1 import artifact_pb2, generation_pb2, task_pb2
from atelier.v1 import generation_service_pb2 as service_pb2
from atelier_client import enums, outputs, results, tasks
from atelier_client.decoding_engines import pause_from_pb
from atelier_client.media import Artifact
from atelier_client.message_fields import (
    read_integer,
    read_json,
    read_number,
    read_seconds,
    read_time,
    shortest_decimal,
)


def artifact_from_pb(pb: artifact_pb2.Artifact) -> Artifact:
    """The metadata of an artifact."""
    return Artifact(
        id=pb.id,
        media_type=pb.media_type,
        size=pb.size,
        sha256=pb.sha256,
        width=pb.image_size.width,
        height=pb.image_size.height,
        create_time=read_time(pb, "create_time"),
        expire_time=read_time(pb, "expire_time"),
    )


def generation_from_pb(pb: generation_pb2.Generation) -> results.Generation:
    """The state of a generation."""
    return results.Generation(
        id=pb.id,
        request_id=pb.request_id,
        state=enums.State.from_number(pb.state),
        engine=pb.engine,
        task=_audio_task(pb.audio) if pb.HasField("audio") else _image_task(pb.image),
        outputs=tuple(_output(output) for output in pb.outputs),
        receipt=_receipt(pb.receipt) if pb.HasField("receipt") else None,
        failure=_failure(pb.failure) if pb.HasField("failure") else None,
        cancel_outcome=enums.CancelOutcome.from_number(pb.cancel_outcome),
        cancel_cause=enums.CancelCause.from_number(pb.cancel_cause),
        cancel_reason=pb.cancel_reason,
        subject=pb.subject,
        priority=enums.Priority.from_number(pb.priority),
        stopped_at_step=pb.stopped_at_step,
        create_time=read_time(pb, "create_time"),
        start_time=read_time(pb, "start_time"),
        end_time=read_time(pb, "end_time"),
        expire_time=read_time(pb, "expire_time"),
    )


def progress_from_pb(pb: service_pb2.StreamProgressResponse) -> results.Progress:
    """One event of a generation."""
    return results.Progress(
        generation_id=pb.generation_id,
        sequence=pb.sequence,
        state=enums.State.from_number(pb.state),
        time=read_time(pb, "time"),
        engine=pb.engine,
        attempt=pb.attempt,
        stage=pb.stage,
        step=pb.step,
        steps=pb.steps,
        progress=pb.progress,
        queue_position=pb.queue_position if pb.HasField("queue_position") else None,
        estimated_remaining_seconds=read_seconds(pb, "estimated_remaining"),
        preview=_preview(pb.preview) if pb.HasField("preview") else None,
        generation=generation_from_pb(pb.generation) if pb.HasField("generation") else None,
    )


def cancellation_from_pb(pb: service_pb2.CancelGenerationResponse) -> results.Cancellation:
    """The result of a cancellation."""
    return results.Cancellation(
        outcome=enums.CancelOutcome.from_number(pb.outcome),
        stopped_at_step=pb.stopped_at_step,
        generation=generation_from_pb(pb.generation),
    )


def plan_from_pb(pb: service_pb2.PlanGenerationResponse) -> results.Plan:
    """The plan of a request."""
    return results.Plan(
        engine=pb.engine,
        parameters=tuple(_parameter(parameter) for parameter in pb.parameters),
        cost=_cost(pb.cost) if pb.HasField("cost") else None,
        estimated_wait_seconds=read_seconds(pb, "estimated_wait"),
        estimated_duration_seconds=read_seconds(pb, "estimated_duration"),
        accepted=pb.accepted,
        rejection=_failure(pb.rejection) if pb.HasField("rejection") else None,
        selection=_selection(pb.selection) if pb.HasField("selection") else None,
        cost_units=pb.cost_units,
    )


def health_from_pb(pb: service_pb2.HealthResponse) -> results.Health:
    """The health of the server and of its engines."""
    return results.Health(
        status=enums.ServingStatus.from_number(pb.status),
        engines=tuple(
            results.EngineHealth(
                engine=engine.engine,
                state=enums.EngineState.from_number(engine.state),
                message=engine.message,
                pause=pause_from_pb(engine.pause) if engine.HasField("pause") else None,
            )
            for engine in pb.engines
        ),
        version=pb.version,
        uptime_seconds=read_seconds(pb, "uptime") or 0.0,
        message=pb.message,
        accepts_generations=pb.accepts_generations,
    )


def _output(pb: generation_pb2.Output) -> outputs.Image | outputs.Audio:
    kind = outputs.Audio if pb.artifact.media_type.startswith("audio/") else outputs.Image
    return kind(
        artifact=artifact_from_pb(pb.artifact),
        seed=pb.seed,
        content=pb.data or None,
        uri=pb.uri,
        flagged=pb.flagged,
        audio=_audio_properties(pb.audio) if pb.HasField("audio") else None,
    )


def _audio_properties(pb: generation_pb2.AudioProperties) -> outputs.AudioProperties:
    return outputs.AudioProperties(
        samples=pb.samples, sample_rate=pb.sample_rate, channels=pb.channels
    )


def _failure(pb: generation_pb2.Failure) -> results.Failure:
    return results.Failure(
        reason=pb.reason, code=pb.code, message=pb.message, retryable=pb.retryable
    )


def _selection(pb: generation_pb2.Selection) -> results.Selection:
    return results.Selection(
        reason=enums.SelectionReason.from_number(pb.reason), explanation=pb.explanation
    )


def _receipt(pb: generation_pb2.Receipt) -> results.Receipt:
    return results.Receipt(
        parameters=tuple(_parameter(parameter) for parameter in pb.parameters),
        attempts=tuple(_attempt(attempt) for attempt in pb.attempts),
        timings=tuple(
            results.Timing(stage=timing.stage, seconds=read_seconds(timing, "duration") or 0.0)
            for timing in pb.timings
        ),
        cost=_cost(pb.cost) if pb.HasField("cost") else None,
        reproducibility=enums.Reproducibility.from_number(pb.reproducibility),
        recipe=_recipe(pb.recipe) if pb.HasField("recipe") else None,
        cached=pb.cached,
        selection=_selection(pb.selection) if pb.HasField("selection") else None,
        usage=dict(sorted(pb.usage.items())),
        cost_explanation=pb.cost_explanation,
        memory_bytes=pb.memory_bytes,
        reuse=results.Reuse(prompt=pb.reuse.prompt, similarity=pb.reuse.similarity)
        if pb.HasField("reuse")
        else None,
        cost_units=pb.cost_units,
    )


def _parameter(pb: generation_pb2.Parameter) -> results.Parameter:
    return results.Parameter(
        name=pb.name,
        value=_parameter_value(pb.name, pb.value) if pb.HasField("value") else None,
        requested=_parameter_value(pb.name, pb.requested) if pb.HasField("requested") else None,
        disposition=enums.Disposition.from_number(pb.disposition),
        explanation=pb.explanation,
    )


def _parameter_value(name: str, pb: Value) -> object:
    """A value of the receipt; a seed, which it has in digits, is an int."""
    value = read_json(pb)
    return int(value) if name == "seed" and isinstance(value, str) else value


def _attempt(pb: generation_pb2.Attempt) -> results.Attempt:
    return results.Attempt(
        number=pb.number,
        engine=pb.engine,
        start_time=read_time(pb, "start_time"),
        end_time=read_time(pb, "end_time"),
        outcome=enums.AttemptOutcome.from_number(pb.outcome),
        failure=_failure(pb.failure) if pb.HasField("failure") else None,
        replica=pb.replica,
    )


def _recipe(pb: generation_pb2.Recipe) -> results.Recipe:
    return results.Recipe(
        engine_type=pb.engine_type,
        model=pb.model,
        weights_digest=pb.weights_digest,
        seeds=tuple(pb.seeds),
        versions=dict(sorted(pb.versions.items())),
    )


def _cost(pb: generation_pb2.Cost) -> results.Cost:
    return results.Cost(currency=pb.currency, amount=pb.amount)


def _preview(pb: generation_pb2.Preview) -> results.Preview:
    return results.Preview(
        media_type=pb.media_type, data=pb.data, width=pb.size.width, height=pb.size.height
    )


def _image_task(pb: task_pb2.ImageTask) -> tasks.ImageTask:
    return tasks.ImageTask(
        prompt=pb.prompt,
        negative_prompt=pb.negative_prompt,
        style=pb.style,
        model=pb.model,
        width=read_integer(pb, "width"),
        height=read_integer(pb, "height"),
        steps=read_integer(pb, "steps"),
        guidance=read_number(pb, "guidance"),
        seed=read_integer(pb, "seed"),
        scheduler=pb.scheduler,
        num_images=read_integer(pb, "num_images"),
        init_image=_source(pb.init_image) if pb.HasField("init_image") else None,
        strength=read_number(pb, "strength"),
        mask=_source(pb.mask) if pb.HasField("mask") else None,
        controls=tuple(_control(control) for control in pb.controls),
        loras=tuple(_lora(lora) for lora in pb.loras),
        fit=enums.FitMode.from_number(pb.fit),
        resource_profile=enums.ResourceProfile.from_number(pb.resource_profile),
        safety_mode=enums.SafetyMode.from_number(pb.safety_mode),
        format=enums.ImageFormat.from_number(pb.format),
        preview_interval=read_integer(pb, "preview_interval"),
        clip_skip=read_integer(pb, "clip_skip"),
        aspect_ratio=pb.aspect_ratio,
        padding_mask_crop=read_integer(pb, "padding_mask_crop"),
        outpaint=_outpaint(pb.outpaint) if pb.HasField("outpaint") else None,
        upscale=tasks.Upscale(factor=shortest_decimal(pb.upscale.factor), model=pb.upscale.model)
        if pb.HasField("upscale")
        else None,
        embeddings=tuple(
            tasks.Embedding(name=one.name, negative=one.negative) for one in pb.embeddings
        ),
    )


def _outpaint(pb: task_pb2.Outpaint) -> tasks.Outpaint:
    return tasks.Outpaint(left=pb.left, top=pb.top, right=pb.right, bottom=pb.bottom)


def _audio_task(pb: task_pb2.AudioTask) -> tasks.AudioTask:
    return tasks.AudioTask(
        prompt=pb.prompt,
        negative_prompt=pb.negative_prompt,
        duration_seconds=read_seconds(pb, "duration"),
        steps=read_integer(pb, "steps"),
        guidance=read_number(pb, "guidance"),
        seed=read_integer(pb, "seed"),
        sample_rate=read_integer(pb, "sample_rate"),
        channels=read_integer(pb, "channels"),
        candidates=read_integer(pb, "candidates"),
        seamless_loop=pb.seamless_loop,
        loudness_lufs=read_number(pb, "loudness_lufs"),
        model=pb.model,
        format=enums.AudioFormat.from_number(pb.format),
        high_pass_hz=read_number(pb, "high_pass_hz"),
        fade_in_seconds=read_seconds(pb, "fade_in"),
        fade_out_seconds=read_seconds(pb, "fade_out"),
        init_audio=_source(pb.init_audio) if pb.HasField("init_audio") else None,
        strength=read_number(pb, "strength"),
        preview_interval=read_integer(pb, "preview_interval"),
        continuation=pb.continuation,
    )


def _control(pb: task_pb2.Control) -> tasks.Control:
    return tasks.Control(
        type=enums.ControlType.from_number(pb.type),
        image=_source(pb.image),
        preprocess=pb.preprocess,
        strength=read_number(pb, "strength"),
        start=read_number(pb, "start"),
        end=read_number(pb, "end"),
    )


def _lora(pb: task_pb2.Lora) -> tasks.Lora:
    return tasks.Lora(
        name=pb.name, weight=read_number(pb, "weight"), role=enums.LoraRole.from_number(pb.role)
    )


def _source(pb: task_pb2.MediaSource) -> str:
    """The id of the artifact, or the URI; the server has stored attachments as artifacts."""
    return pb.artifact_id or pb.uri or pb.attachment
