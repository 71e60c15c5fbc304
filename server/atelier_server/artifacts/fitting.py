"""Fits the input images of a task to its width and height, and its input audio to its rate, channels and duration."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import assert_never

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atelier_engines.media import Pixels, Samples, image_from_pixels
from atelier_engines.task import AudioTask, Control, Fit, ImageTask
from atelier_server.artifacts.audio import shape

_RESAMPLER_SECONDS = 0.1
_MARKED = 128  # level from which a mask marks a pixel
_Array = NDArray[np.uint8]


def is_fitted(image: Pixels, width: int, height: int) -> bool:
    """Whether an image has the aspect ratio of that size, but for less than one of its pixels."""
    return _find_largest(image, width, height) == (image.width, image.height)


def fit_images(task: ImageTask) -> ImageTask:
    """The task with all its images fitted as it says; blocks. Those that are fitted already are not touched.

    What is added around them continues their edges; around control maps, where it says nothing, it is black.
    """
    return replace(
        task,
        init_image=None if task.init_image is None else _fit(task.init_image, task),
        mask=None if task.mask is None else _fit(task.mask, task, is_mask=True),
        controls=tuple(_fit_control(control, task) for control in task.controls),
    )


def fit_audio(task: AudioTask) -> AudioTask:
    """The task with its initial audio in its sample rate and channels, and cut to its duration; blocks."""
    if task.init_audio is None:
        return task
    audio, rate = task.init_audio, task.sample_rate
    frames = round(task.duration_seconds * rate)
    # What follows the end by a little affects the samples before it.
    needed = math.ceil((frames / rate + _RESAMPLER_SECONDS) * audio.sample_rate)
    array = shape.mix(audio.array[:needed], task.channels)
    array = shape.resample(array, audio.sample_rate, rate, loops=False)[:frames]
    return replace(task, init_audio=Samples(array=array, sample_rate=rate))


def _fit_control(control: Control, task: ImageTask) -> Control:
    return replace(control, image=_fit(control.image, task, continues_edges=control.preprocess))


def _fit(
    image: Pixels, task: ImageTask, *, is_mask: bool = False, continues_edges: bool = True
) -> Pixels:
    if is_fitted(image, task.width, task.height):
        return image
    match task.fit:
        case Fit.COVER:
            return _crop(image, task.width, task.height)
        case Fit.STRETCH:
            return Pixels(array=resize(image, task.width, task.height, is_mask=is_mask))
        case Fit.CONTAIN:
            return _pad(
                image, task.width, task.height, is_mask=is_mask, continues_edges=continues_edges
            )
        case _:
            assert_never(task.fit)


def _find_largest(image: Pixels, width: int, height: int) -> tuple[int, int]:
    """Width and height of the largest part of an image that has that aspect ratio, in whole pixels, rounded up."""
    if image.width * height > image.height * width:
        return -(-image.height * width // height), image.height
    return image.width, -(-image.width * height // width)


def _crop(image: Pixels, width: int, height: int) -> Pixels:
    """The middle of an image, in the aspect ratio of that size."""
    columns, rows = _find_largest(image, width, height)
    left, top = (image.width - columns) // 2, (image.height - rows) // 2
    return Pixels(array=image.array[top : top + rows, left : left + columns])


def _pad(image: Pixels, width: int, height: int, *, is_mask: bool, continues_edges: bool) -> Pixels:
    """The whole image in the middle of one of that size."""
    scale = min(width / image.width, height / image.height)
    columns, rows = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    inner = resize(image, columns, rows, is_mask=is_mask)
    left, top = (width - columns) // 2, (height - rows) // 2
    around = ((top, height - rows - top), (left, width - columns - left), (0, 0))
    made: _Array = np.pad(inner, around, mode="edge" if continues_edges else "constant")
    return Pixels(array=made)


def resize(image: Pixels, width: int, height: int, *, is_mask: bool = False) -> _Array:
    """An image in that size; of a mask each pixel is marked that any marked one lies in."""
    if is_mask:
        marked = (image.array[:, :, 0] >= _MARKED).astype(np.float32)
        covered = Image.fromarray(marked).resize((width, height), Image.Resampling.BOX)
        return np.where(np.asarray(covered) > 0, 255, 0).astype(np.uint8)[:, :, np.newaxis]
    if (image.width, image.height) == (width, height):
        return image.array
    resized = image_from_pixels(image).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized).reshape(height, width, -1)
