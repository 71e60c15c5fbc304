"""Protobuf answers to the data of `engines`: the only file that reads capability messages."""

from __future__ import annotations

from google.protobuf.json_format import MessageToDict

from atelier.v1 import engine_pb2
from atelier.v1 import generation_service_pb2 as service_pb2
from atelier_client.engines import (
    AudioCapabilities,
    Capabilities,
    Engine,
    ImageCapabilities,
    IntegerRange,
    Load,
    Model,
    NumberRange,
    Price,
)
from atelier_client.enums import (
    AudioFeature,
    AudioFormat,
    CancelSupport,
    ControlType,
    EngineState,
    ImageFeature,
    ImageFormat,
    PriceUnit,
    Reproducibility,
    ResourceProfile,
    SafetyMode,
)


def capabilities(pb: service_pb2.GetCapabilitiesResponse) -> Capabilities:
    """What the service can do."""
    return Capabilities(
        engines=tuple(_engine(engine) for engine in pb.engines),
        default_engine=pb.default_engine,
        version=pb.version,
        max_inline_bytes=pb.max_inline_bytes,
        max_upload_bytes=pb.max_upload_bytes,
    )


def _engine(pb: engine_pb2.Engine) -> Engine:
    schema: dict[str, object] = MessageToDict(pb.options_schema)
    return Engine(
        name=pb.name,
        type=pb.type,
        description=pb.description,
        state=EngineState.from_number(pb.state),
        state_message=pb.state_message,
        image=_image(pb.image) if pb.HasField("image") else None,
        audio=_audio(pb.audio) if pb.HasField("audio") else None,
        options_schema=schema,
        cancel_support=CancelSupport.from_number(pb.cancel_support),
        reproducibility=Reproducibility.from_number(pb.reproducibility),
        price=_price(pb.price) if pb.HasField("price") else None,
        load=_load(pb.load),
        fallbacks=tuple(pb.fallbacks),
    )


def _image(pb: engine_pb2.ImageCapabilities) -> ImageCapabilities:
    return ImageCapabilities(
        features=frozenset(ImageFeature.from_number(feature) for feature in pb.features),
        width=_integers(pb.width) if pb.HasField("width") else None,
        height=_integers(pb.height) if pb.HasField("height") else None,
        max_pixels=pb.max_pixels,
        steps=_integers(pb.steps) if pb.HasField("steps") else None,
        guidance=_numbers(pb.guidance) if pb.HasField("guidance") else None,
        max_images=pb.max_images,
        max_prompt_length=pb.max_prompt_length,
        schedulers=tuple(pb.schedulers),
        control_types=tuple(ControlType.from_number(kind) for kind in pb.control_types),
        max_controls=pb.max_controls,
        models=tuple(_model(model) for model in pb.models),
        loras=tuple(pb.loras),
        max_loras=pb.max_loras,
        styles=tuple(pb.styles),
        formats=tuple(ImageFormat.from_number(kind) for kind in pb.formats),
        resource_profiles=tuple(ResourceProfile.from_number(way) for way in pb.resource_profiles),
        safety_modes=tuple(SafetyMode.from_number(way) for way in pb.safety_modes),
        upscalers=tuple(pb.upscalers),
        upscale_only=pb.upscale_only,
    )


def _audio(pb: engine_pb2.AudioCapabilities) -> AudioCapabilities:
    return AudioCapabilities(
        features=frozenset(AudioFeature.from_number(feature) for feature in pb.features),
        duration_seconds=_numbers(pb.duration_seconds) if pb.HasField("duration_seconds") else None,
        steps=_integers(pb.steps) if pb.HasField("steps") else None,
        guidance=_numbers(pb.guidance) if pb.HasField("guidance") else None,
        sample_rates=tuple(pb.sample_rates),
        channels=tuple(pb.channels),
        max_candidates=pb.max_candidates,
        max_prompt_length=pb.max_prompt_length,
        models=tuple(_model(model) for model in pb.models),
        formats=tuple(AudioFormat.from_number(kind) for kind in pb.formats),
    )


def _integers(pb: engine_pb2.IntegerRange) -> IntegerRange:
    return IntegerRange(min=pb.min, max=pb.max, default=pb.default, multiple_of=pb.multiple_of)


def _numbers(pb: engine_pb2.NumberRange) -> NumberRange:
    return NumberRange(min=pb.min, max=pb.max, default=pb.default)


def _model(pb: engine_pb2.Model) -> Model:
    return Model(name=pb.name, family=pb.family, digest=pb.digest)


def _price(pb: engine_pb2.Price) -> Price:
    return Price(currency=pb.currency, amount=pb.amount, unit=PriceUnit.from_number(pb.unit))


def _load(pb: engine_pb2.Load) -> Load:
    service = pb.service_time
    return Load(
        queued=pb.queued,
        running=pb.running,
        concurrency=pb.concurrency,
        backlog_seconds=pb.backlog.seconds + pb.backlog.nanos / 1e9,
        service_seconds=service.seconds + service.nanos / 1e9
        if pb.HasField("service_time")
        else None,
    )
