"""Decodes the server's messages about engines into `engines`."""

from __future__ import annotations

from google.protobuf.json_format import MessageToDict

from atelier.v1 import engine_pb2
from atelier.v1 import generation_service_pb2 as service_pb2
from atelier_client import engines, enums
from atelier_client.message_fields import read_seconds, read_time


def capabilities_from_pb(pb: service_pb2.GetCapabilitiesResponse) -> engines.Capabilities:
    """The capabilities of all engines."""
    return engines.Capabilities(
        engines=tuple(_engine(engine) for engine in pb.engines),
        default_engine=pb.default_engine,
        version=pb.version,
        max_inline_bytes=pb.max_inline_bytes,
        max_upload_bytes=pb.max_upload_bytes,
        routing=enums.RoutingPolicy.from_number(pb.routing),
    )


def pause_from_pb(pb: engine_pb2.EnginePause) -> engines.EnginePause:
    """That an engine begins nothing."""
    return engines.EnginePause(reason=pb.reason, pause_time=read_time(pb, "pause_time"))


def _engine(pb: engine_pb2.Engine) -> engines.Engine:
    schema: dict[str, object] = MessageToDict(pb.options_schema)
    return engines.Engine(
        name=pb.name,
        type=pb.type,
        description=pb.description,
        state=enums.EngineState.from_number(pb.state),
        state_message=pb.state_message,
        image=_image_capabilities_from_pb(pb.image) if pb.HasField("image") else None,
        audio=_audio_capabilities_from_pb(pb.audio) if pb.HasField("audio") else None,
        options_schema=schema,
        cancel_support=enums.CancelSupport.from_number(pb.cancel_support),
        reproducibility=enums.Reproducibility.from_number(pb.reproducibility),
        price=_price(pb.price) if pb.HasField("price") else None,
        load=_load(pb.load),
        fallbacks=tuple(pb.fallbacks),
        versions=dict(sorted(pb.versions.items())),
        placeholder=pb.placeholder,
        runtimes=dict(sorted(pb.runtimes.items())),
        runtime_fallbacks=dict(sorted(pb.runtime_fallbacks.items())),
        pause=pause_from_pb(pb.pause) if pb.HasField("pause") else None,
    )


def _image_capabilities_from_pb(pb: engine_pb2.ImageCapabilities) -> engines.ImageCapabilities:
    return engines.ImageCapabilities(
        features=frozenset(enums.ImageFeature.from_number(feature) for feature in pb.features),
        width=_integers(pb.width) if pb.HasField("width") else None,
        height=_integers(pb.height) if pb.HasField("height") else None,
        max_pixels=pb.max_pixels,
        steps=_integers(pb.steps) if pb.HasField("steps") else None,
        guidance=_numbers(pb.guidance) if pb.HasField("guidance") else None,
        clip_skip=_integers(pb.clip_skip) if pb.HasField("clip_skip") else None,
        max_images=pb.max_images,
        max_prompt_length=pb.max_prompt_length,
        schedulers=tuple(pb.schedulers),
        control_types=tuple(enums.ControlType.from_number(kind) for kind in pb.control_types),
        max_controls=pb.max_controls,
        models=tuple(_model(model) for model in pb.models),
        loras=tuple(pb.loras),
        max_loras=pb.max_loras,
        styles=tuple(pb.styles),
        formats=tuple(enums.ImageFormat.from_number(kind) for kind in pb.formats),
        resource_profiles=tuple(
            enums.ResourceProfile.from_number(way) for way in pb.resource_profiles
        ),
        safety_modes=tuple(enums.SafetyMode.from_number(way) for way in pb.safety_modes),
        upscalers=tuple(pb.upscalers),
        upscale_only=pb.upscale_only,
        keeps_init_size=pb.keeps_init_size,
        default_preview_interval=pb.default_preview_interval,
        min_seed=pb.min_seed,
        max_seed=pb.max_seed or engines.MAX_SEED,
        ignores_strength=pb.ignores_strength,
        inpainting_ignores_strength=pb.inpainting_ignores_strength,
        inpainting_ignores_negative_prompt=pb.inpainting_ignores_negative_prompt,
        strength_skips_steps=pb.strength_skips_steps,
        embeddings=tuple(pb.embeddings),
        typed_names=pb.typed_names,
        vocabulary=frozenset(pb.vocabulary),
        service_reads_embeddings=pb.service_reads_embeddings,
        lora_embeddings={one.lora: tuple(one.embeddings) for one in pb.lora_embeddings},
        native_side=_integers(pb.native_side) if pb.HasField("native_side") else None,
        lora_trigger_words={one.lora: tuple(one.words) for one in pb.lora_trigger_words},
    )


def _audio_capabilities_from_pb(pb: engine_pb2.AudioCapabilities) -> engines.AudioCapabilities:
    return engines.AudioCapabilities(
        features=frozenset(enums.AudioFeature.from_number(feature) for feature in pb.features),
        duration_seconds=_numbers(pb.duration_seconds) if pb.HasField("duration_seconds") else None,
        steps=_integers(pb.steps) if pb.HasField("steps") else None,
        guidance=_numbers(pb.guidance) if pb.HasField("guidance") else None,
        sample_rates=tuple(pb.sample_rates),
        channels=tuple(pb.channels),
        max_candidates=pb.max_candidates,
        max_prompt_length=pb.max_prompt_length,
        models=tuple(_model(model) for model in pb.models),
        formats=tuple(enums.AudioFormat.from_number(kind) for kind in pb.formats),
        output_sample_rates=tuple(pb.output_sample_rates),
        output_channels=tuple(pb.output_channels),
        server_features=frozenset(
            enums.AudioFeature.from_number(feature) for feature in pb.server_features
        ),
        vocabulary=frozenset(pb.vocabulary),
        prompt_decides_duration=pb.prompt_decides_duration,
        audible_seconds=pb.audible_seconds if pb.HasField("audible_seconds") else None,
        max_init_audio_seconds=pb.max_init_audio_seconds
        if pb.HasField("max_init_audio_seconds")
        else None,
    )


def _integers(pb: engine_pb2.IntegerRange) -> engines.IntegerRange:
    return engines.IntegerRange(
        min=pb.min,
        max=pb.max,
        default=pb.default,
        multiple_of=pb.multiple_of,
        allowed_values=tuple(pb.allowed_values),
    )


def _numbers(pb: engine_pb2.NumberRange) -> engines.NumberRange:
    return engines.NumberRange(min=pb.min, max=pb.max, default=pb.default)


def _model(pb: engine_pb2.Model) -> engines.Model:
    return engines.Model(
        name=pb.name,
        family=pb.family,
        digest=pb.digest,
        fallback_for=pb.fallback_for,
        fallback_reason=pb.fallback_reason,
        license=pb.license,
    )


def _price(pb: engine_pb2.Price) -> engines.Price:
    return engines.Price(
        currency=pb.currency, amount=pb.amount, unit=enums.PriceUnit.from_number(pb.unit)
    )


def _load(pb: engine_pb2.Load) -> engines.Load:
    return engines.Load(
        queued=pb.queued,
        running=pb.running,
        concurrency=pb.concurrency,
        backlog_seconds=read_seconds(pb, "backlog"),
        service_seconds=read_seconds(pb, "service_time"),
    )
