"""Paints pictures with one loaded model.

A picture's way reads from top to bottom, as in a pipeline; where it needs the denoiser it stops and
says so, and whoever drives it may serve several at once.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray

from atelier_engines.diffusion import image_tensors, previews, schedulers
from atelier_engines.diffusion.batching import DenoiseRequest, collate, split
from atelier_engines.diffusion.capabilities import Facts
from atelier_engines.diffusion.controls.prepared_control import PreparedControl, prepare, scale_at
from atelier_engines.diffusion.controls.preprocessing import ControlPreprocessor
from atelier_engines.diffusion.controls.residuals import ControlInput, compute_residuals
from atelier_engines.diffusion.families.base import Family
from atelier_engines.diffusion.initial_latents import InitialLatents, LatentInitializer
from atelier_engines.diffusion.loras.adapters import LoraSwitch
from atelier_engines.diffusion.memory.fitting import Fitting, Size
from atelier_engines.diffusion.memory.holdings import Holdings
from atelier_engines.diffusion.previews import Previewer
from atelier_engines.diffusion.runtimes.base import Conditioning
from atelier_engines.diffusion.sampler import ModelInput, Sampler, is_guided
from atelier_engines.diffusion.schedulers import Scheduler
from atelier_engines.errors import EngineFailedError, InvalidTaskError
from atelier_engines.event import Output, Stage, Step
from atelier_engines.local import errors
from atelier_engines.media import Encoded, Pixels
from atelier_engines.task import ImageTask, Lora, ResourceProfile, Upscale
from atelier_engines.threads import Emit
from atelier_engines.upscaling.registry import Upscalers

ImageCoroutine = Generator[DenoiseRequest | None, torch.Tensor, None]
"""One picture in the making: yields what it asks of the denoiser and is sent the prediction.

None asks for nothing: it lets the others go on, and is sent anything.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A model that was made for one number of steps."""

    family: Family
    """The model."""
    scheduler: Scheduler
    """See Painter.scheduler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A loaded model and everything it takes to paint with it. Used by one thread at a time."""

    family: Family
    """The model."""
    scheduler: Scheduler
    """The model's own, for its noise schedule; never stepped."""
    previewer: Previewer
    """Makes the previews."""
    facts: Facts
    """What capabilities say about the model."""
    upscalers: Upscalers
    """Enlarge what is painted."""
    fitting: Fitting
    """Says which pictures fit into memory."""
    holdings: Holdings
    """The networks' place in memory."""
    profile: ResourceProfile = ResourceProfile.BALANCED
    """What is spent when the task says nothing."""
    loras: LoraSwitch | None = None
    """Switches the LoRAs; None where there are none."""
    control_preprocessor: ControlPreprocessor | None = None
    """Makes the maps of controls; None where there are no ControlNets."""
    variants: Mapping[int, Variant] = field(default_factory=dict)
    """By numbers of steps; empty where one model does for any number."""

    def variant(self, steps: int) -> Variant:
        """What paints in so many steps.

        Raises:
            InvalidTaskError: there are variants, and none of them does.
        """
        if not self.variants:
            return Variant(family=self.family, scheduler=self.scheduler)
        if steps not in self.variants:
            known = ", ".join(map(str, sorted(self.variants)))
            raise InvalidTaskError(
                "steps", f"steps must be one of {known}, for which this model was made, not {steps}"
            )
        return self.variants[steps]

    def start(self, task: ImageTask, emit: Emit) -> list[ImageCoroutine]:
        """One painting a seed; none depends on the others. Nothing is done before their first step.

        However a painting ends, the device is done with it. It raises, or what it is thrown becomes:

        Raises:
            InvalidTaskError: the scheduler or the model cannot work in so many steps.
            OutOfMemoryError: the picture is too large for the device.
            EngineFailedError: the device failed, or the networks made numbers that are none.
        """
        sitting = _TaskRun(self, task, emit)
        return [sitting.coroutine(seed) for seed in task.seeds]

    def predict(self, runs: Sequence[DenoiseRequest]) -> tuple[torch.Tensor, ...]:
        """The predictions for runs of one key, made at once."""
        runtime = runs[0].runtime
        self.set_loras(runs[0].loras)
        rows, conditioning = collate(runs)
        hints = [run.controls for run in runs for _ in range(len(run))]
        residuals = compute_residuals(runtime, rows, conditioning, hints)
        height, width = rows.latents.shape[-2:]
        with self.fitting.footprint.watch("denoise", len(rows.latents) * height * width):
            prediction = runtime.denoise(rows.latents, rows.timesteps, conditioning, residuals)
        return split(prediction, runs)

    def set_loras(self, loras: tuple[Lora, ...]) -> None:
        """From now on compute with these LoRAs, and no others.

        Raises:
            UnsupportedError: there is no LoRA of that name.
            ModelMissingError: a LoRA is broken, or does not fit the model.
        """
        if self.loras is not None:
            self.loras.activate(loras)

    def generate(self, task: ImageTask, emit: Emit) -> None:
        """Paint the pictures of a task alone, one after the other.

        Raises:
            EngineError: see `begin`.
        """
        with torch.inference_mode():
            for painting in self.start(task, emit):
                asked = next(painting, None)
                with suppress(StopIteration):
                    while True:
                        made = self.predict([asked])[0] if asked is not None else None
                        asked = painting.send(made)  # type: ignore[arg-type]  # see Painting

    def self_test(self) -> None:
        """Return if the device computes.

        Raises:
            EngineFailedError: it does not.
        """
        runtime = self.family.runtime
        with errors.translate_inference("a tiny sum", runtime.device):
            if torch.ones(8, device=runtime.device).sum().item() != 8:  # noqa: PLR2004
                raise EngineFailedError(f"{runtime.device} cannot add")


class _TaskRun:
    """One task: what its pictures share, and how far they have come together."""

    def __init__(self, painter: Pipeline, task: ImageTask, emit: Emit) -> None:
        self._pipeline = painter
        self._task = task
        self._emit = emit
        self._stage = ""
        self._steps_done = 0
        self._steps_each = 0
        self._unfinished = len(task.seeds)
        self._steps = painter.facts.steps if task.steps is None else task.steps
        self._guidance = painter.facts.guidance if task.guidance is None else task.guidance
        variant = painter.variant(self._steps)
        self._family, self._scheduler = variant.family, variant.scheduler
        self._loras = () if painter.loras is None else painter.loras.key(task.loras)
        self._size = Size(
            width=task.width,
            height=task.height,
            rows=2 if is_guided(self._guidance) else 1,
            tiled=(task.resource_profile or painter.profile) is ResourceProfile.MEMORY,
        )

    def coroutine(self, seed: int) -> ImageCoroutine:
        """The picture of that seed."""
        task, runtime = self._task, self._family.runtime
        fitting, size = self._pipeline.fitting, self._size
        advice = partial(fitting.advice, size, failed=True)
        with (
            errors.translate_inference(str(size), runtime.device, hint=advice),
            self._pipeline.holdings.task(),
        ):
            try:
                fitting.check(size)
                denoising = self._sampler(seed)
                yield from self._denoise(denoising)
                self._enter_stage("decode")
                picture = Pixels(array=self._decode(denoising.latents))
                if task.upscale is not None:
                    picture = yield from self._upscale(picture, task.upscale)
                self._emit(Output(media=picture, seed=seed, weights=self._lora_digests()))
                self._unfinished -= 1
                if self._unfinished:
                    self._enter_stage("denoise")
            finally:
                runtime.synchronize()

    def _decode(self, latents: torch.Tensor) -> NDArray[np.uint8]:
        """(height, width, 3) of clean latents."""
        footprint, cells = self._pipeline.fitting.footprint, latents.shape[-1] * latents.shape[-2]
        tiled = self._size.tiled
        with nullcontext() if tiled else footprint.watch("decode", cells):
            return _to_pixels(self._family.decode(latents, tiled=tiled))

    def _sampler(self, seed: int) -> Sampler:
        _ = self._conditioning, self._controls
        generator = torch.Generator("cpu").manual_seed(seed)
        scheduler = schedulers.build(
            self._task.scheduler or self._pipeline.facts.scheduler,
            self._scheduler,
            steps=self._steps,
            device=self._family.runtime.device,
        )
        return Sampler(
            scheduler=scheduler,
            start=self._initial_latents(
                LatentInitializer(
                    family=self._family,
                    scheduler=scheduler,
                    generator=generator,
                    steps=self._steps,
                    tiled=self._size.tiled,
                )
            ),
            guidance=self._guidance,
            generator=generator,
        )

    def _initial_latents(self, beginner: LatentInitializer) -> InitialLatents:
        task = self._task
        if self._init_image is None:
            return beginner.from_noise(task.width, task.height)
        self._enter_stage("encode_image")
        if self._mask is None:
            return beginner.from_image(self._init_image, task.strength)
        return beginner.from_masked(self._init_image, self._mask, task.strength)

    def _upscale(self, picture: Pixels, upscale: Upscale) -> Generator[None, torch.Tensor, Pixels]:
        """The picture, enlarged; every part of it is a step, and others go on in between."""
        self._enter_stage("upscale")
        enlarging = self._pipeline.upscalers.get(upscale).upscale(picture, upscale.factor)
        with closing(enlarging):
            while True:
                try:
                    next(enlarging)
                except StopIteration as end:
                    made: Pixels = end.value
                    return made
                self._emit_step(None)
                yield

    def _lora_digests(self) -> dict[str, str]:
        """The digests of the LoRAs that are worn."""
        adapters = self._pipeline.loras
        found = {} if adapters is None else adapters.digests(self._loras)
        return {f"lora {name}": digest for name, digest in found.items()}

    def _emit_step(self, preview: Encoded | None) -> None:
        """Say that one more step of the task is done."""
        self._steps_done += 1
        total = self._steps_each * len(self._task.seeds)
        self._emit(Step(index=self._steps_done, total=total, preview=preview))

    def _tile_count(self) -> int:
        """Parts in which each picture is enlarged."""
        task = self._task
        if task.upscale is None:
            return 0
        upscaler = self._pipeline.upscalers.get(task.upscale)
        return upscaler.tile_count(task.width, task.height)

    def _denoise(self, denoising: Sampler) -> ImageCoroutine:
        """From the start to clean latents."""
        self._enter_stage("denoise")
        self._steps_each = denoising.steps + self._tile_count()
        while not denoising.is_finished:
            done = denoising.steps_done
            rows = denoising.model_input()
            prediction = yield DenoiseRequest(
                runtime=self._family.runtime,
                inputs=rows,
                conditioning=self._conditioning,
                loras=self._loras,
                controls=tuple(
                    ControlInput(
                        network=control.network,
                        map=control.map,
                        scale=scale_at(control, denoising.calls_done, denoising.calls),
                    )
                    for control in self._controls
                ),
            )
            guided = denoising.step(prediction)
            if denoising.steps_done == done:
                continue  # half a step of a second-order scheduler
            preview = self._preview(denoising, rows, guided)
            # A GPU takes orders for many steps ahead; waiting here keeps the progress true and
            # leaves at most one step to do when the caller goes.
            self._family.runtime.synchronize()
            self._emit_step(preview)

    def _preview(
        self, denoising: Sampler, rows: ModelInput, guided: torch.Tensor
    ) -> Encoded | None:
        interval = self._task.preview_interval
        if not interval or denoising.steps_done % interval:
            return None
        return previews.preview_or_none(
            self._pipeline.previewer, denoising.predict_x0(rows, guided)
        )

    def _enter_stage(self, stage: str) -> None:
        """Say that the task has come to a stage, once for all pictures that do so together."""
        if stage != self._stage:
            self._stage = stage
            self._emit(Stage(name=stage))

    @cached_property
    def _conditioning(self) -> Conditioning:
        self._enter_stage("encode_text")
        self._pipeline.set_loras(self._loras)
        return self._family.condition(
            self._task.prompt,
            self._task.negative_prompt,
            guidance=self._guidance,
            width=self._task.width,
            height=self._task.height,
            adapters=self._loras,
        )

    @cached_property
    def _controls(self) -> tuple[PreparedControl, ...]:
        if self._pipeline.control_preprocessor is None or not self._task.controls:
            return ()
        self._enter_stage("control")
        return tuple(
            prepare(
                control,
                maps=self._pipeline.control_preprocessor,
                runtime=self._family.runtime,
                width=self._task.width,
                height=self._task.height,
            )
            for control in self._task.controls
        )

    @cached_property
    def _init_image(self) -> torch.Tensor | None:
        """(1, 3, height, width) of -1 to 1."""
        found = self._task.init_image
        if found is None:
            return None
        return (
            image_tensors.to_tensor(found, width=self._task.width, height=self._task.height) * 2 - 1
        )

    @cached_property
    def _mask(self) -> torch.Tensor | None:
        """(1, 1, height, width), 1 where it is painted anew, else 0."""
        found = self._task.mask
        if found is None:
            return None
        return image_tensors.to_mask(found, width=self._task.width, height=self._task.height)


def _to_pixels(picture: torch.Tensor) -> NDArray[np.uint8]:
    """(height, width, 3) of a picture, (1, 3, height, width), about -1 to 1.

    Raises:
        EngineFailedError: the picture holds something else than numbers.
    """
    if not torch.isfinite(picture).all():
        raise EngineFailedError(
            "the networks made numbers that are none (an overflow); "
            "configure another precision, bfloat16 or float32, or other weights"
        )
    scaled = (picture[0] * 0.5 + 0.5).clamp(0, 1).float()
    bytes_ = (scaled * 255).round().to(torch.uint8)
    array: NDArray[np.uint8] = bytes_.permute(1, 2, 0).contiguous().cpu().numpy()
    return array
