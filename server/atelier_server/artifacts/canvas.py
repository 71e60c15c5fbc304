"""Inpaints a part of an image: takes it out of the canvas for the engine, and puts what the engine makes back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from atelier.v1 import task_pb2 as pb
from atelier_engines.compositing import FEATHER, MARKED, composite, feather
from atelier_engines.media import Pixels
from atelier_engines.task import Control, ImageTask
from atelier_server.artifacts.fitting import fit_images, resize

_Array = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle on a canvas, in pixels; it may reach beyond the canvas."""

    left: int
    top: int
    width: int
    height: int

    def shift(self, left: int, top: int) -> Box:
        """The same rectangle from that place."""
        return replace(self, left=self.left - left, top=self.top - top)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """An image on its canvas, and the part of it that the engine draws."""

    image: _Array
    """(height, width, 3): the init image; what is new continues its edges."""
    box: Box
    """What the engine is given, in the aspect ratio of the task."""
    changed: Box
    """Outside of it nothing changes; it is within the box and within the canvas."""
    share: NDArray[np.float32]
    """(height, width, 1) of `changed`: of what the engine makes in each pixel."""

    def paste(self, drawn: Pixels) -> Pixels:
        """The canvas with what the engine has made of the box, in whatever size; blocks."""
        part = resize(drawn, self.box.width, self.box.height)
        inner = part[self.changed.shift(self.box.left, self.box.top).slices]
        made = self.image.copy()
        place = self.changed.slices
        made[place] = composite(self.image[place], inner, self.share)
        return Pixels(array=made)


def lay_out(task: ImageTask, request: pb.ImageTask) -> tuple[ImageTask, Canvas | None]:
    """The task with its images as the engine gets them, and the canvas to paste into, if the request asks for one.

    Without one the images are fitted to the task. Blocks.
    """
    if task.init_image is None or task.mask is None or not has_canvas(request):
        return fit_images(task), None
    sides = request.outpaint
    around = ((sides.top, sides.bottom), (sides.left, sides.right), (0, 0))
    fitted = _fit_to_init_image(task, task.init_image)
    image = np.pad(fitted.init_image.array, around, mode="edge")  # type: ignore[union-attr]  # it has one
    mask = np.pad(fitted.mask.array, around, constant_values=255)  # type: ignore[union-attr]  # it has one
    canvas = _choose_part(task, request, image, mask[:, :, 0] >= MARKED)
    given = replace(
        task,
        init_image=Pixels(array=_cut(image, canvas.box)),
        mask=Pixels(array=_cut(mask, canvas.box, edges=False)),
        controls=tuple(_cut_control(control, task, canvas) for control in task.controls),
    )
    return given, canvas


def has_canvas(request: pb.ImageTask) -> bool:
    """Whether what is made is put back into an image."""
    return request.HasField("outpaint") or request.HasField("padding_mask_crop")


def _fit_to_init_image(task: ImageTask, image: Pixels) -> ImageTask:
    """The task with a mask of exactly the size of the init image."""
    size = (image.width, image.height)
    fitted = fit_images(replace(task, width=size[0], height=size[1], controls=()))
    mask = fitted.mask
    if mask is None or (mask.width, mask.height) == size:
        return fitted
    return replace(fitted, mask=Pixels(array=resize(mask, *size, is_mask=True)))


def _choose_part(
    task: ImageTask, request: pb.ImageTask, image: _Array, marked: NDArray[np.bool_]
) -> Canvas:
    """The part to draw: all of the canvas, or what is marked with its padding."""
    height, width = marked.shape
    whole = Box(left=0, top=0, width=width, height=height)
    bounds = _find_bounds(marked)
    changed = whole if bounds is None else _pad(bounds, FEATHER, whole)
    part = whole
    if bounds is not None and request.HasField("padding_mask_crop"):
        part = _pad(bounds, max(request.padding_mask_crop, FEATHER), whole)
    return Canvas(
        image=image,
        box=_widen(part, whole, task.width / task.height),
        changed=changed,
        share=feather(marked[changed.slices])[:, :, None],
    )


def _find_bounds(marked: NDArray[np.bool_]) -> Box | None:
    """The smallest rectangle around all that is marked; None where nothing is."""
    rows, columns = np.flatnonzero(marked.any(axis=1)), np.flatnonzero(marked.any(axis=0))
    if not len(rows):
        return None
    left, top = int(columns[0]), int(rows[0])
    return Box(
        left=left, top=top, width=int(columns[-1]) + 1 - left, height=int(rows[-1]) + 1 - top
    )


def _pad(box: Box, pixels: int, whole: Box) -> Box:
    """The box with so many pixels on each side, as far as the canvas reaches."""
    left, top = max(box.left - pixels, 0), max(box.top - pixels, 0)
    right = min(box.left + box.width + pixels, whole.width)
    bottom = min(box.top + box.height + pixels, whole.height)
    return Box(left=left, top=top, width=right - left, height=bottom - top)


def _widen(box: Box, whole: Box, ratio: float) -> Box:
    """The smallest box of that ratio, width by height, around it, inside the canvas as far as it is large enough."""
    width = max(box.width, round(box.height * ratio))
    height = max(box.height, round(box.width / ratio))
    return Box(
        left=_place(box.left, box.width, width, whole.width),
        top=_place(box.top, box.height, height, whole.height),
        width=width,
        height=height,
    )


def _place(start: int, length: int, wanted: int, available: int) -> int:
    """Where a longer stretch begins, with the old one in its middle, moved inside what is available."""
    if wanted > available:
        return (available - wanted) // 2
    return min(max(start - (wanted - length) // 2, 0), available - wanted)


def _cut(image: _Array, box: Box, *, edges: bool = True) -> _Array:
    """That part of the canvas; beyond it continue the edges, or else all is 0."""
    height, width = image.shape[:2]
    inside = image[
        max(box.top, 0) : min(box.top + box.height, height),
        max(box.left, 0) : min(box.left + box.width, width),
    ]
    beyond = (
        (max(-box.top, 0), max(box.top + box.height - height, 0)),
        (max(-box.left, 0), max(box.left + box.width - width, 0)),
        (0, 0),
    )
    made: _Array = np.pad(inside, beyond, mode="edge" if edges else "constant")
    return made


def _cut_control(control: Control, task: ImageTask, canvas: Canvas) -> Control:
    """The control for the box, where its image stands for all of the canvas."""
    height, width = canvas.image.shape[:2]
    whole = replace(
        task, width=width, height=height, init_image=None, mask=None, controls=(control,)
    )
    (fitted,) = fit_images(whole).controls
    part = _cut(resize(fitted.image, width, height), canvas.box, edges=control.preprocess)
    return replace(control, image=Pixels(array=part))
