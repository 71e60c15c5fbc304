"""Generates images with one loaded model.

The way of an image reads from top to bottom in `_TaskRun.coroutine`; where it needs the denoiser it yields a
request, so that one run of the denoiser can serve the images of several tasks.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from atelier_engines.diffusion import image_tensors, previews, schedulers
from atelier_engines.diffusion.batching import DenoiseRequest, collate, split
from atelier_engines.diffusion.config import MaskMode
from atelier_engines.diffusion.controls.preprocessing import ControlPreprocessor
from atelier_engines.diffusion.controls.residuals import ControlInput, compute_residuals
from atelier_engines.diffusion.embeddings.loader import EmbeddingLoader
from atelier_engines.diffusion.embeddings.reading import TextualInversion
from atelier_engines.diffusion.families.family import Family, is_guided
from atelier_engines.diffusion.loras.adapters import LoraKey, LoraSwitch
from atelier_engines.diffusion.memory.estimator import ImageWork, MemoryEstimator
from atelier_engines.diffusion.model_info import ModelInfo
from atelier_engines.diffusion.previews import Previewer
from atelier_engines.diffusion.runtimes.compiled_blocks import CompiledBlocks
from atelier_engines.diffusion.sampler import InitialLatents, LatentInitializer, ModelInput, Sampler
from atelier_engines.diffusion.schedulers import Scheduler
from atelier_engines.diffusion.task_inputs import TaskInputs, prepare_inputs
from atelier_engines.diffusion.task_options import DiffusionOptions
from atelier_engines.diffusion.task_progress import TaskProgress
from atelier_engines.diffusion.variant import Variant
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    InvalidTaskError,
    TaskFailedError,
    UnsupportedError,
)
from atelier_engines.event import Output
from atelier_engines.local import devices, errors
from atelier_engines.local.components import EngineComponents
from atelier_engines.local.random_numbers import make_generator
from atelier_engines.local.step_scheduler import StepCoroutine
from atelier_engines.media import Encoded, Pixels
from atelier_engines.options import parse_options
from atelier_engines.task import ImageTask, ResourceProfile, Upscale
from atelier_engines.threads import Emit
from atelier_engines.upscaling.registry import Upscalers

_log = logging.getLogger(__name__)

ImageCoroutine = StepCoroutine[DenoiseRequest, torch.Tensor]
"""Generates one image: yields requests for the denoiser, is sent the predictions. See StepCoroutine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """A loaded model and everything that generating images with it takes. For one thread at a time."""

    family: Family
    """The model."""
    scheduler: Scheduler
    """The model's own, for its noise schedule; never stepped."""
    previewer: Previewer
    """Makes the previews."""
    info: ModelInfo
    """Facts about the model."""
    upscalers: Upscalers
    """Upscale generated images."""
    memory: MemoryEstimator
    """Estimates which images fit into memory."""
    components: EngineComponents
    """The model's components in the model cache."""
    blocks: CompiledBlocks
    """Its compiled blocks, if any are."""
    profile: ResourceProfile = ResourceProfile.BALANCED
    """Used where the task names none."""
    mask_mode: MaskMode = "composite"
    """What masks mean where the task does not say."""
    loras: LoraSwitch | None = None
    """Switches the LoRAs; None where the engine offers none."""
    embeddings: EmbeddingLoader | None = None
    """The textual inversion embeddings; None where there is no library of them."""
    control_preprocessor: ControlPreprocessor | None = None
    """Makes the maps of controls; None where there are no ControlNets."""
    variants: Mapping[int, Variant] = field(default_factory=dict)
    """By number of steps; empty where one model serves any number."""

    def variant(self, steps: int) -> Variant:
        """The model for that number of steps.

        Raises:
            InvalidTaskError: there are variants, but none for that number.
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
        """One coroutine for each seed; they are independent, and do nothing before their first step.

        When a coroutine has ended, in whatever way, the device has done its work. It raises what is thrown
        into it, translated, and:

        Raises:
            InvalidTaskError: the scheduler or the model does not support the number of steps.
            OutOfMemoryError: the image is too large for the device.
            EngineFailedError: the device failed, or the model produced NaN or infinity.
            TaskFailedError: it did so with the LoRAs or controls of the task.
        """
        run = _TaskRun(self, task, emit)
        return [run.coroutine(seed) for seed in task.seeds]

    def predict(self, requests: Sequence[DenoiseRequest]) -> tuple[torch.Tensor, ...]:
        """Run the denoiser once for requests of one key, and return the prediction for each."""
        runtime = requests[0].runtime
        self.set_loras(requests[0].loras)
        inputs, conditioning = collate(requests)
        residuals = None
        if any(request.controls for request in requests):
            controls = [request.controls for request in requests for _ in range(len(request))]
            residuals = compute_residuals(runtime.controlnets, inputs, conditioning, controls)
        with self.memory.footprint.watch("denoise", inputs.latents[:, 0].numel()):
            prediction = runtime.denoiser.predict(
                inputs.latents, inputs.timesteps, conditioning, residuals
            )
        return split(prediction, requests)

    def set_loras(self, loras: LoraKey) -> None:
        """Make these LoRAs, and no others, active in the model.

        Raises:
            UnsupportedError: there is no LoRA of that name.
            ModelMissingError: a LoRA is broken, or does not fit the model.
        """
        if self.loras is not None:
            self.loras.activate(loras)

    def find_embeddings(self, names: Sequence[str], loras: LoraKey) -> tuple[TextualInversion, ...]:
        """The textual inversion embeddings of these names, while these LoRAs are active.

        Raises:
            UnsupportedError: there is none of that name.
            InvalidTaskError: several LoRAs bring one of that name along.
            ModelMissingError: one is broken, or does not fit the model.
        """
        if self.embeddings is None:
            if names:
                raise UnsupportedError("embeddings", "this engine does not support embeddings")
            return ()
        return self.embeddings.find(names, [lora.name for lora in loras])


class _TaskRun:
    """One task: its settings, and what its images share."""

    def __init__(self, pipeline: Pipeline, task: ImageTask, emit: Emit) -> None:
        self._pipeline = pipeline
        self._task = task
        self._progress = TaskProgress(emit, len(task.seeds))
        self._inputs: TaskInputs | None = None
        self._inversions: tuple[TextualInversion, ...] = ()
        self._options = parse_options(task, DiffusionOptions)
        self._steps = pipeline.info.steps if task.steps is None else task.steps
        self._guidance = pipeline.info.guidance if task.guidance is None else task.guidance
        variant = pipeline.variant(self._steps)
        self._family, self._scheduler = variant.family, variant.scheduler
        self._loras = () if pipeline.loras is None else pipeline.loras.key(task.loras)
        self._work = ImageWork(
            width=task.width,
            height=task.height,
            rows=2 if is_guided(self._guidance) else 1,
            tiled=(task.resource_profile or pipeline.profile) is ResourceProfile.MEMORY,
        )

    def coroutine(self, seed: int) -> ImageCoroutine:
        """Generate the image of that seed."""
        task, runtime, progress = self._task, self._family.runtime, self._progress
        memory, work = self._pipeline.memory, self._work
        hint = partial(memory.suggest_size, work, failed=True)
        with (
            errors.translate_inference(str(work), runtime.device, hint=hint),
            self._pipeline.components.task(),
        ):
            try:
                memory.require_memory(work)
                inputs = self._prepare_inputs()
                sampler = self._create_sampler(inputs, seed)
                yield from self._denoise(sampler, inputs)
                yield None  # the task may be closed, instead of waiting for the end of the decoding
                progress.enter_stage("decode")
                image = Pixels(array=inputs.compose(self._decode(sampler.latents)))
                if task.upscale is not None:
                    progress.enter_stage("upscale")
                    image = yield from self._upscale(image, task.upscale)
                taken, eager = memory.estimate_bytes(work), self._pipeline.blocks.take_eager_runs()
                output = Output(media=image, seed=seed, memory_bytes=taken, eager_runs=eager)
                progress.finish_image(replace(output, weights=self._added_digests()))
            finally:
                devices.synchronize(runtime.device)

    def _prepare_inputs(self) -> TaskInputs:
        """Prepare the inputs that all images share, for the first of them."""
        if self._inputs is None:
            self._progress.enter_stage("encode_text")
            self._pipeline.set_loras(self._loras)
            self._inversions = self._pipeline.find_embeddings(self._task.embeddings, self._loras)
            self._inputs = prepare_inputs(
                self._task,
                family=self._family,
                guidance=self._guidance,
                loras=self._loras,
                inversions=self._inversions,
                preprocessor=self._pipeline.control_preprocessor,
                mask_mode=self._options.mask_mode or self._pipeline.mask_mode,
                enter_stage=self._progress.enter_stage,
            )
        return self._inputs

    def _create_sampler(self, inputs: TaskInputs, seed: int) -> Sampler:
        generator = make_generator(seed)
        scheduler = schedulers.build(
            self._task.scheduler or self._pipeline.info.schedulers[0],
            self._scheduler,
            steps=self._steps,
            device=self._family.runtime.device,
            spacing=self._options.timestep_spacing,
        )
        initializer = LatentInitializer(
            family=self._family,
            scheduler=scheduler,
            generator=generator,
            steps=self._steps,
            tiled=self._work.tiled,
            on_overflow=partial(self._tell_overflow, "encode_image"),
        )
        return Sampler(
            scheduler=scheduler,
            initial=self._initial_latents(initializer, inputs),
            guidance=self._guidance,
            generator=generator,
        )

    def _initial_latents(
        self, initializer: LatentInitializer, inputs: TaskInputs
    ) -> InitialLatents:
        task = self._task
        if inputs.init_image is None:
            return initializer.from_noise(task.width, task.height)
        self._progress.enter_stage("encode_image")
        if inputs.mask is None:
            return initializer.from_image(inputs.init_image, task.strength)
        return initializer.from_masked(inputs.init_image, inputs.mask, task.strength)

    def _denoise(self, sampler: Sampler, inputs: TaskInputs) -> ImageCoroutine:
        """Denoise from the initial latents to the final ones."""
        progress = self._progress
        progress.enter_stage("denoise")
        progress.steps_per_image = sampler.steps + self._tile_count()
        while not sampler.is_finished:
            steps_done = sampler.steps_done
            model_input = sampler.model_input()
            prediction = yield self._request(sampler, model_input, inputs)
            guided = sampler.step(prediction)
            if sampler.steps_done == steps_done:
                continue  # half a step of a second-order scheduler
            preview = self._preview(sampler, model_input, guided)
            # A GPU queues many steps ahead; waiting here keeps the progress true, and leaves at most one
            # step to do after a cancellation.
            devices.synchronize(self._family.runtime.device)
            progress.finish_step(preview)

    def _request(
        self, sampler: Sampler, model_input: ModelInput, inputs: TaskInputs
    ) -> DenoiseRequest:
        return DenoiseRequest(
            runtime=self._family.runtime,
            inputs=model_input,
            conditioning=inputs.conditioning,
            loras=self._loras,
            controls=tuple(
                ControlInput(
                    network=control.network,
                    map=control.map,
                    scale=control.scale_at(sampler.calls_done, sampler.calls),
                )
                for control in inputs.controls
            ),
        )

    def _preview(
        self, sampler: Sampler, model_input: ModelInput, prediction: torch.Tensor
    ) -> Encoded | None:
        interval = self._task.preview_interval
        if not interval or sampler.steps_done % interval:
            return None
        estimate = sampler.predict_x0(model_input, prediction)
        return previews.preview_or_none(self._pipeline.previewer, estimate)

    def _decode(self, latents: torch.Tensor) -> NDArray[np.uint8]:
        """Decode the final latents to (height, width, 3)."""
        footprint, tiled = self._pipeline.memory.footprint, self._work.tiled
        latent_pixels = latents.shape[-1] * latents.shape[-2]
        with nullcontext() if tiled else footprint.watch("decode", latent_pixels):
            image = self._family.decode(
                latents, tiled=tiled, on_overflow=partial(self._tell_overflow, "decode")
            )
            if not torch.isfinite(image).all():
                raise self._overflow_error()
            return image_tensors.to_pixels(image)

    def _tell_overflow(self, stage: str) -> None:
        """Say in the task's progress, and so in its receipt, that the autoencoder computes again in float32."""
        _log.warning("autoencoder_overflowed", extra={"stage": stage})
        self._progress.enter_stage(f"{stage}_float32")

    def _overflow_error(self) -> EngineError:
        """The fault is the task's where it adds to the model: the model alone is tested by tasks that add nothing."""
        added = [f"the LoRA {lora.name}" for lora in self._loras]
        added += [f"the embedding {inversion.name}" for inversion in self._inversions]
        added += [f"the {control.type.value} control" for control in self._task.controls]
        if added:
            return TaskFailedError(
                f"the model produced NaN or infinity with {', '.join(added)}; lower the weights, or leave it out"
            )
        return EngineFailedError(
            "the model produced NaN or infinity (an overflow); "
            "configure another precision, bfloat16 or float32, or other weights"
        )

    def _upscale(self, image: Pixels, upscale: Upscale) -> Generator[None, torch.Tensor, Pixels]:
        """Upscale the image; each tile is a step, and other images advance between two tiles."""
        upscaler = self._pipeline.upscalers.get(upscale)
        with closing(upscaler.upscale(image, upscale.factor)) as tiles:
            while True:
                try:
                    next(tiles)
                except StopIteration as end:
                    upscaled: Pixels = end.value
                    return upscaled
                self._progress.finish_step()
                yield

    def _tile_count(self) -> int:
        """Number of tiles in which each image is upscaled."""
        if (upscale := self._task.upscale) is None:
            return 0
        return self._pipeline.upscalers.get(upscale).tile_count(self._work.width, self._work.height)

    def _added_digests(self) -> dict[str, str]:
        """The digests of the active LoRAs and of the embeddings, for the receipt."""
        loras = self._pipeline.loras
        found = {} if loras is None else loras.digests(self._loras)
        return {
            **{f"lora {name}": digest for name, digest in found.items()},
            **{f"embedding {one.name}": one.digest for one in self._inversions},
        }
