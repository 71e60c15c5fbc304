"""Tests that images have the requested size, and that every claimed feature has an effect."""

# ruff: noqa: S101 (a suite of tests)

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from atelier_engines.capabilities import ImageCapabilities, ImageFeature
from atelier_engines.conformance import tasks
from atelier_engines.conformance.fixtures import ConformanceFixtures, EngineUnderTest, media_bytes
from atelier_engines.event import Output
from atelier_engines.media import Encoded, Pixels, Samples
from atelier_engines.task import Upscale

if TYPE_CHECKING:
    from atelier_engines.task import ImageTask

_MAX_PREVIEW_SIDE = 512
_MAX_PREVIEW_BYTES = 128 * 1024


class ImageConformance(ConformanceFixtures):
    """The tests of engines that generate images."""

    def test_an_image_has_exactly_the_requested_size(
        self, subject: EngineUnderTest, image: ImageCapabilities, image_task: ImageTask
    ) -> None:
        """At the default size and at another aspect ratio; encoded files have the size that they declare."""
        lower = image_task.height - image.height.multiple_of
        shapes = [image_task]
        if lower >= image.height.min:
            shapes.append(replace(image_task, height=lower))
        for task in shapes:
            for output in subject.outputs(task):
                assert _size(output) == task.output_size

    def test_several_seeds_give_several_images(
        self, subject: EngineUnderTest, image: ImageCapabilities, image_task: ImageTask
    ) -> None:
        """One task can generate as many images as it claims, in the order of the seeds."""
        if image.max_images == 1:
            pytest.skip("it generates one image per task")
        seeds = tuple(range(7, 7 + min(image.max_images, 3)))
        outputs = subject.outputs(replace(image_task, seeds=seeds))
        assert [output.seed for output in outputs] == list(seeds)
        steps = [step.index for step in subject.steps(replace(image_task, seeds=seeds))]
        assert steps == sorted(set(steps))

    def test_previews_are_sent_on_request_and_are_small(
        self, subject: EngineUnderTest, image: ImageCapabilities, image_task: ImageTask
    ) -> None:
        """A preview is an image file of at most 512 pixels a side and 128 KiB."""
        if ImageFeature.PREVIEW not in image.features:
            pytest.skip("it does not claim PREVIEW")
        steps = subject.steps(replace(image_task, preview_interval=1))
        previews = [step.preview for step in steps if step.preview is not None]
        assert previews
        for preview in previews:
            assert preview.media_type.startswith("image/")
            assert max(_file_size(preview)) <= _MAX_PREVIEW_SIDE
            assert len(preview.data) <= _MAX_PREVIEW_BYTES

    def test_no_preview_is_sent_without_a_request(
        self, subject: EngineUnderTest, image_task: ImageTask
    ) -> None:
        """An interval of 0 means none."""
        steps = subject.steps(replace(image_task, preview_interval=0))
        assert all(step.preview is None for step in steps)

    def test_an_initial_image_has_an_effect(
        self, subject: EngineUnderTest, image: ImageCapabilities, image_task: ImageTask
    ) -> None:
        """It may have any size and one channel or three; another initial image gives another result."""
        _require_feature(image, ImageFeature.IMAGE_TO_IMAGE)
        results = []
        for seed, width, height in ((1, image_task.width, image_task.height), (2, 40, 24)):
            initial = tasks.random_image(width, height, seed)
            grey = Pixels(array=initial.array[:, :, :1])
            for init in (initial, grey):
                output = subject.outputs(replace(image_task, init_image=init, strength=0.5))[0]
                assert _size(output) == image_task.output_size
                results.append(output)
        if subject.bit_exact:
            assert len({media_bytes(output) for output in results}) == len(results)

    def test_a_negative_prompt_has_an_effect(
        self, subject: EngineUnderTest, image: ImageCapabilities, image_task: ImageTask
    ) -> None:
        """An engine that accepts a negative prompt does not ignore it."""
        _require_feature(image, ImageFeature.NEGATIVE_PROMPT)
        if not subject.bit_exact:
            pytest.skip("only a bit-exact engine shows whether a change has an effect")
        strong = image_task
        if image.guidance is not None:
            guidance = min(image.guidance.max, max(image.guidance.default, 5.0))
            strong = replace(image_task, guidance=guidance)
        assert subject.bytes_of(strong) != subject.bytes_of(replace(strong, negative_prompt="red"))

    def test_another_scheduler_has_an_effect(
        self, subject: EngineUnderTest, image: ImageCapabilities, image_task: ImageTask
    ) -> None:
        """Every listed scheduler works, and their results are not all equal."""
        _require_feature(image, ImageFeature.SCHEDULER)
        results = [
            subject.bytes_of(replace(image_task, scheduler=name))[0] for name in image.schedulers
        ]
        if subject.bit_exact:
            assert len(set(results)) > 1

    def test_every_listed_upscaler_upscales(
        self, subject: EngineUnderTest, image: ImageCapabilities, image_task: ImageTask
    ) -> None:
        """By any factor, to the nearest pixel."""
        _require_feature(image, ImageFeature.UPSCALING)
        for name in ("", *image.upscalers):
            task = replace(image_task, upscale=Upscale(factor=1.55, model=name))
            sides = (round(task.width * 1.55), round(task.height * 1.55))
            assert _size(subject.outputs(task)[0]) == sides

    def test_every_listed_model_works(
        self, subject: EngineUnderTest, image: ImageCapabilities, image_task: ImageTask
    ) -> None:
        """Every model that the capabilities list can be used."""
        for model in image.models:
            assert subject.outputs(replace(image_task, model=model.name))


def _require_feature(image: ImageCapabilities, feature: ImageFeature) -> None:
    if feature not in image.features:
        pytest.skip(f"it does not claim {feature.name}")


def _size(output: Output) -> tuple[int, int]:
    media = output.media
    assert not isinstance(media, Samples), "the output is not an image"
    if isinstance(media, Pixels):
        assert media.array.dtype.name == "uint8"
        assert media.array.ndim == 3  # noqa: PLR2004 (height, width, channels)
        assert media.array.shape[2] in {1, 3}
    else:
        assert media.media_type.startswith("image/")
        assert _file_size(media) == (media.width, media.height)
    return media.width, media.height


def _file_size(media: Encoded) -> tuple[int, int]:
    with Image.open(io.BytesIO(media.data)) as image:
        image.load()
        return image.size
