"""Encodes what engines can do, and their load, as messages of the contract."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.struct_pb2 import Struct

from atelier.v1 import engine_pb2 as pb
from atelier.v1 import task_pb2
from atelier_engines.capabilities import (
    AudioCapabilities,
    AudioFeature,
    CancelSupport,
    ImageCapabilities,
    ImageFeature,
    IntegerRange,
    Model,
    NumberRange,
    PriceUnit,
)
from atelier_server.admission.audio_finishing import (
    list_output_channels,
    list_output_rates,
    list_server_features,
)
from atelier_server.admission.route import REPRODUCIBILITIES
from atelier_server.artifacts.audio.formats import AUDIO_FORMATS
from atelier_server.artifacts.audio.reading import MAX_INPUT_SECONDS
from atelier_server.config.settings import StyleSettings
from atelier_server.engines.status import EngineStatus

_IMAGE_FORMATS = (
    task_pb2.IMAGE_FORMAT_PNG,
    task_pb2.IMAGE_FORMAT_WEBP,
    task_pb2.IMAGE_FORMAT_JPEG,
    task_pb2.IMAGE_FORMAT_AVIF,
)
_CANCEL = {
    CancelSupport.STEP: pb.CANCEL_SUPPORT_STEP,
    CancelSupport.REMOTE: pb.CANCEL_SUPPORT_REMOTE,
    CancelSupport.NONE: pb.CANCEL_SUPPORT_NONE,
}
_TAKE_AUDIO = {AudioFeature.AUDIO_TO_AUDIO, AudioFeature.CONTINUATION}
"""Features that need init_audio."""
_PRICE_UNITS = {
    PriceUnit.IMAGE: pb.PRICE_UNIT_IMAGE,
    PriceUnit.MEGAPIXEL: pb.PRICE_UNIT_MEGAPIXEL,
    PriceUnit.SECOND: pb.PRICE_UNIT_SECOND,
}


def engine_to_pb(
    engine: EngineStatus,
    queued: int,
    styles: Mapping[str, StyleSettings],
    backlog: float | None,
) -> pb.Engine:
    """The message for one engine; `queued` generations wait for it, and all will have ended in `backlog` seconds."""
    capabilities = engine.capabilities
    message = pb.Engine(
        name=engine.name,
        type=engine.type,
        description=capabilities.description,
        state=engine.state,
        state_message=engine.message,
        image=None if capabilities.image is None else _image_to_pb(capabilities.image, styles),
        audio=None if capabilities.audio is None else _audio_to_pb(capabilities.audio),
        cancel_support=_CANCEL[capabilities.cancel],
        reproducibility=REPRODUCIBILITIES[capabilities.reproducibility],
        load=_load_to_pb(engine, queued, backlog),
        fallbacks=engine.fallbacks,
        versions=capabilities.versions,
        runtimes=capabilities.runtimes,
        runtime_fallbacks=capabilities.runtime_fallbacks,
        placeholder=capabilities.placeholder,
        pause=engine.pause,
    )
    schema = Struct()
    schema.update(capabilities.options_schema)
    message.options_schema.CopyFrom(schema)
    if capabilities.price is not None:
        price = pb.Price(
            currency=capabilities.price.currency,
            amount=capabilities.price.amount,
            unit=_PRICE_UNITS[capabilities.price.unit],
        )
        message.price.CopyFrom(price)
    return message


def _image_to_pb(
    capabilities: ImageCapabilities, styles: Mapping[str, StyleSettings]
) -> pb.ImageCapabilities:
    return pb.ImageCapabilities(
        features=sorted(_IMAGE_FEATURES[feature] for feature in capabilities.features),
        width=_integers_to_pb(capabilities.width),
        height=_integers_to_pb(capabilities.height),
        max_pixels=capabilities.max_pixels,
        steps=_integers_to_pb(capabilities.steps),
        guidance=_numbers_to_pb(capabilities.guidance),
        clip_skip=_integers_to_pb(capabilities.clip_skip),
        max_images=capabilities.max_images,
        max_prompt_length=capabilities.max_prompt_length,
        schedulers=capabilities.schedulers,
        control_types=[
            task_pb2.ControlType.Value(f"CONTROL_TYPE_{kind.name}")
            for kind in capabilities.control_types
        ],
        max_controls=capabilities.max_controls,
        models=map(_model_to_pb, capabilities.models),
        loras=capabilities.loras,
        max_loras=capabilities.max_loras,
        styles=[
            name
            for name, style in styles.items()
            if all(lora.name in capabilities.loras for lora in style.loras)
        ],
        formats=_IMAGE_FORMATS,
        resource_profiles=[
            task_pb2.ResourceProfile.Value(f"RESOURCE_PROFILE_{way.name}")
            for way in capabilities.resource_profiles
        ],
        safety_modes=[
            task_pb2.SafetyMode.Value(f"SAFETY_MODE_{way.name}")
            for way in capabilities.safety_modes
        ],
        upscalers=capabilities.upscalers,
        upscale_only=capabilities.upscale_only,
        keeps_init_size=capabilities.keeps_init_size,
        default_preview_interval=capabilities.default_preview_interval,
        min_seed=capabilities.min_seed,
        max_seed=capabilities.max_seed,
        ignores_strength=capabilities.ignores_strength,
        inpainting_ignores_strength=capabilities.inpainting_ignores_strength,
        inpainting_ignores_negative_prompt=capabilities.inpainting_ignores_negative_prompt,
        strength_skips_steps=capabilities.strength_skips_steps,
        embeddings=capabilities.embeddings,
        typed_names=capabilities.typed_names,
        vocabulary=sorted(capabilities.vocabulary),
        service_reads_embeddings=capabilities.service_reads_embeddings,
        lora_embeddings=[
            pb.LoraEmbeddings(lora=lora, embeddings=names)
            for lora, names in capabilities.lora_embeddings.items()
        ],
        native_side=_integers_to_pb(capabilities.native_side),
        lora_trigger_words=[
            pb.LoraTriggerWords(lora=lora, words=words)
            for lora, words in capabilities.lora_trigger_words.items()
        ],
    )


def _audio_to_pb(capabilities: AudioCapabilities) -> pb.AudioCapabilities:
    return pb.AudioCapabilities(
        features=sorted(_AUDIO_FEATURES[feature] for feature in capabilities.features),
        duration_seconds=_numbers_to_pb(capabilities.duration_seconds),
        steps=_integers_to_pb(capabilities.steps),
        guidance=_numbers_to_pb(capabilities.guidance),
        sample_rates=capabilities.sample_rates,
        channels=capabilities.channels,
        max_candidates=capabilities.max_candidates,
        max_prompt_length=capabilities.max_prompt_length,
        models=map(_model_to_pb, capabilities.models),
        formats=[form for form in AUDIO_FORMATS if form],
        vocabulary=sorted(capabilities.vocabulary),
        prompt_decides_duration=capabilities.prompt_decides_duration,
        audible_seconds=capabilities.audible_seconds,
        max_init_audio_seconds=MAX_INPUT_SECONDS if _TAKE_AUDIO & capabilities.features else None,
        output_sample_rates=list_output_rates(capabilities),
        output_channels=list_output_channels(capabilities),
        server_features=[
            _AUDIO_FEATURES[feature] for feature in list_server_features(capabilities)
        ],
    )


def _load_to_pb(engine: EngineStatus, queued: int, backlog: float | None) -> pb.Load:
    load = pb.Load(
        queued=queued, running=engine.running, concurrency=engine.capabilities.concurrency
    )
    if backlog is not None:
        load.backlog.FromMicroseconds(int(backlog * 1e6))
    if (typical := engine.times.typical_seconds) is not None:
        load.service_time.FromMicroseconds(int(typical * 1e6))
    return load


def _model_to_pb(model: Model) -> pb.Model:
    return pb.Model(
        name=model.name,
        family=model.family,
        digest=model.digest,
        fallback_for=model.fallback_for,
        fallback_reason=model.fallback_reason,
        license=model.license,
    )


def _integers_to_pb(allowed: IntegerRange | None) -> pb.IntegerRange | None:
    if allowed is None:
        return None
    return pb.IntegerRange(
        min=allowed.min,
        max=allowed.max,
        default=allowed.default,
        multiple_of=allowed.multiple_of,
        allowed_values=allowed.allowed_values,
    )


def _numbers_to_pb(allowed: NumberRange | None) -> pb.NumberRange | None:
    return (
        None
        if allowed is None
        else pb.NumberRange(min=allowed.min, max=allowed.max, default=allowed.default)
    )


# The two enums have the same names on both sides; a name that is missing on one fails here, at import.
_IMAGE_FEATURES = {
    feature: pb.ImageFeature.Value(f"IMAGE_FEATURE_{feature.name}") for feature in ImageFeature
}
_AUDIO_FEATURES = {
    feature: pb.AudioFeature.Value(f"AUDIO_FEATURE_{feature.name}") for feature in AudioFeature
}
