"""From the contract's image task to the engine's."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from atelier.v1 import task_pb2 as pb
from atelier_engines.capabilities import ImageCapabilities, ImageFeature
from atelier_engines.media import Pixels
from atelier_engines.task import (
    JSON,
    Control,
    ControlType,
    Fit,
    ImageTask,
    SafetyMode,
    Upscale,
)
from atelier_server.admission.canvas_limits import record_canvas
from atelier_server.admission.concepts import add_concept_loras
from atelier_server.admission.image_size import choose_size
from atelier_server.admission.loras import describe_stack, stack_loras
from atelier_server.admission.model_choice import choose_model
from atelier_server.admission.parameters import NO_PREVIEWS, ParameterRecorder, to_decimal
from atelier_server.admission.prompts import decide_prompts
from atelier_server.admission.sampling import choose_sampling
from atelier_server.admission.styles import add_style_loras, apply_style
from atelier_server.admission.typed_names import take_loras
from atelier_server.artifacts.canvas import has_canvas
from atelier_server.artifacts.fitting import is_fitted
from atelier_server.config.settings import LoraSettings, StyleSettings

_DEFAULT_STRENGTH = 0.75
_NEW_STRENGTH = 1.0  # of outpainting: there is nothing yet to keep
_NO_STYLE = StyleSettings()
_CONTROL_TYPES = {
    pb.CONTROL_TYPE_CANNY: ControlType.CANNY,
    pb.CONTROL_TYPE_DEPTH: ControlType.DEPTH,
    pb.CONTROL_TYPE_POSE: ControlType.POSE,
    pb.CONTROL_TYPE_SEGMENTATION: ControlType.SEGMENTATION,
}
_FITS = {
    pb.FIT_MODE_COVER: Fit.COVER,
    pb.FIT_MODE_CONTAIN: Fit.CONTAIN,
    pb.FIT_MODE_STRETCH: Fit.STRETCH,
}
_SAFETY_MODES = {
    pb.SAFETY_MODE_BLOCK: SafetyMode.BLOCK,
    pb.SAFETY_MODE_FLAG: SafetyMode.FLAG,
    pb.SAFETY_MODE_OFF: SafetyMode.OFF,
}


def resolve_image_task(
    request: pb.ImageTask,
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
    *,
    styles: Mapping[str, StyleSettings],
    loras: LoraSettings,
    images: Mapping[str, Pixels],
    options: Mapping[str, JSON],
    random_seed: int,
) -> ImageTask:
    """The task with everything decided; the recorder notes how.

    Raises:
        InvalidRequestError: no such style, no size of that aspect ratio, or a canvas that is too large.
    """
    asked = request.loras
    style, request = _read_request(request, capabilities, recorder, styles)
    sampling = choose_sampling(request, capabilities, recorder, style)
    width, height = choose_size(request, capabilities, recorder, style, images.get("init_image"))
    if not capabilities.upscale_only:
        add_concept_loras(request, loras, capabilities, recorder)
    record_canvas(request, images.get("init_image"), recorder)
    stacked = stack_loras(request.loras, loras) if request.loras else ()
    if stacked:
        recorder.parameters.append(describe_stack(asked, request.loras, stacked))
    prompts = decide_prompts(request, stacked, sampling.guidance, capabilities, recorder)
    return ImageTask(
        prompt=prompts.prompt,
        negative_prompt=prompts.negative_prompt,
        embeddings=prompts.embeddings,
        width=width,
        height=height,
        steps=sampling.steps,
        guidance=sampling.guidance,
        seeds=_choose_seeds(request, capabilities, recorder, random_seed),
        model=choose_model(request.model, capabilities.models, recorder),
        scheduler=sampling.scheduler,
        init_image=images.get("init_image"),
        strength=_choose_strength(request, capabilities, recorder, sampling.steps),
        mask=images.get("mask"),
        controls=_to_controls(request, images),
        loras=stacked,
        fit=_choose_fit(request, images.values(), (width, height), recorder),
        upscale=_to_upscale(request),
        resource_profile=sampling.profile,
        safety_mode=recorder.choose_optional(
            "safety_mode", _SAFETY_MODES.get(request.safety_mode), capabilities.safety_modes
        ),
        preview_interval=_choose_preview_interval(request, capabilities, recorder),
        clip_skip=_choose_clip_skip(request, capabilities, recorder),
        options=options,
    )


def _read_request(
    request: pb.ImageTask,
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
    styles: Mapping[str, StyleSettings],
) -> tuple[StyleSettings, pb.ImageTask]:
    """The style, and the request with the style's texts and LoRAs and with the LoRAs that its prompt names."""
    style = _NO_STYLE
    if request.style:
        style, request = apply_style(request, styles)
    if not capabilities.upscale_only:
        request = take_loras(request, capabilities, recorder)
    add_style_loras(request, style)
    return style, request


def _choose_seeds(
    request: pb.ImageTask,
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
    random_seed: int,
) -> tuple[int, ...]:
    """One seed for each image, counting up from the first."""
    count = recorder.apply_default(
        "num_images", request.num_images if request.HasField("num_images") else None, 1
    )
    first = recorder.choose_seed(
        request.seed if request.HasField("seed") else None,
        random_seed,
        range(capabilities.min_seed, capabilities.max_seed + 1)
        if ImageFeature.SEED in capabilities.features
        else None,
        count=count,
    )
    return tuple(range(first, first + count))


def _choose_strength(
    request: pb.ImageTask,
    capabilities: ImageCapabilities,
    recorder: ParameterRecorder,
    steps: int | None,
) -> float:
    strength = to_decimal(request.strength) if request.HasField("strength") else None
    if capabilities.upscale_only:
        if strength is not None:
            recorder.ignore("strength", strength, "this engine only upscales init_image")
        return _DEFAULT_STRENGTH
    ignored = capabilities.ignores_strength or (
        (request.HasField("mask") or request.HasField("outpaint"))
        and capabilities.inpainting_ignores_strength
    )
    if request.HasField("init_image") and not ignored:
        skippable = steps if capabilities.strength_skips_steps else None
        default = _NEW_STRENGTH if request.HasField("outpaint") else _DEFAULT_STRENGTH
        return recorder.raise_strength(strength, default, skippable)
    if strength is not None:
        missing = "without init_image"
        if ignored:
            missing = "on this engine: its model follows the prompt alone"
        recorder.ignore("strength", strength, f"it has no effect {missing}")
    return _DEFAULT_STRENGTH


def _choose_fit(
    request: pb.ImageTask,
    images: Collection[Pixels],
    size: tuple[int, int],
    recorder: ParameterRecorder,
) -> Fit:
    """How images are fitted; the recorder notes the default where it changes any of them."""
    requested = _FITS.get(request.fit)
    if requested is not None and not images:
        recorder.ignore("fit", requested.value, "the task has no images")
    elif requested is not None:
        recorder.apply("fit", requested.value)
    elif not has_canvas(request) and not all(is_fitted(image, *size) for image in images):
        recorder.choose("fit", "", [Fit.COVER.value])
    return requested or Fit.COVER


def _choose_preview_interval(
    request: pb.ImageTask, capabilities: ImageCapabilities, recorder: ParameterRecorder
) -> int:
    if not request.HasField("preview_interval"):
        return capabilities.default_preview_interval
    if request.preview_interval and ImageFeature.PREVIEW not in capabilities.features:
        recorder.ignore("preview_interval", request.preview_interval, NO_PREVIEWS)
        return 0
    return request.preview_interval


def _choose_clip_skip(
    request: pb.ImageTask, capabilities: ImageCapabilities, recorder: ParameterRecorder
) -> int | None:
    """The layer of the text encoders, within the engine's limits; None where it has none."""
    requested = request.clip_skip if request.HasField("clip_skip") else None
    chosen = recorder.clamp("clip_skip", requested, capabilities.clip_skip)
    return None if chosen is None else int(chosen)


def _to_upscale(request: pb.ImageTask) -> Upscale | None:
    if not request.HasField("upscale"):
        return None
    return Upscale(factor=to_decimal(request.upscale.factor), model=request.upscale.model)


def _to_controls(request: pb.ImageTask, images: Mapping[str, Pixels]) -> tuple[Control, ...]:
    return tuple(
        _to_control(control, images[f"controls[{index}].image"])
        for index, control in enumerate(request.controls)
    )


def _to_control(request: pb.Control, image: Pixels) -> Control:
    return Control(
        type=_CONTROL_TYPES[request.type],
        image=image,
        preprocess=request.preprocess,
        strength=to_decimal(request.strength) if request.HasField("strength") else 1.0,
        start=to_decimal(request.start),
        end=to_decimal(request.end) if request.HasField("end") else 1.0,
    )
