"""Maps are taken as they are, or computed from a photo by what is configured for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from atelier_engines.diffusion import image_tensors
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.controls import openpose_drawing, pose_crop
from atelier_engines.diffusion.controls.ade20k_palette import ADE20K
from atelier_engines.diffusion.controls.preprocessing import ControlPreprocessor
from atelier_engines.errors import ModelMissingError, UnsupportedError
from atelier_engines.media import Pixels
from atelier_engines.task import Control, ControlType
from tests.engines.diffusion import tiny_vision

WRITERS: dict[ControlType, Callable[[Path], Path]] = {
    ControlType.DEPTH: tiny_vision.write_depth,
    ControlType.POSE: tiny_vision.write_pose,
    ControlType.SEGMENTATION: tiny_vision.write_segmentation,
}


def maker(**preprocessors: Path) -> ControlPreprocessor:
    """Makes maps with these models."""
    named = {name: str(folder) for name, folder in preprocessors.items()}
    return ControlPreprocessor(
        DiffusionConfig.model_validate({"preprocessors": named}), torch.device("cpu")
    )


def photo(width: int = 70, height: int = 50) -> Pixels:
    """A colourful photo."""
    drawn = np.random.default_rng(3).integers(0, 256, (height // 10, width // 10, 3), np.uint8)
    return Pixels(array=drawn.repeat(10, axis=0).repeat(10, axis=1))


def of_photo(kind: ControlType, image: Pixels | None = None) -> Control:
    """A control whose map is to be computed."""
    return Control(type=kind, image=image or photo(), preprocess=True)


def made(maps: ControlPreprocessor, control: Control) -> NDArray[np.uint8]:
    """The map for an image of 96 x 64."""
    return maps.get_map(control, width=96, height=64).array


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(64, 64), (70, 50), (200, 300)])
def test_a_ready_map_is_read_as_diffusers_reads_it(size: tuple[int, int], channels: int) -> None:
    """Bit by bit, whatever its size, in colours or grey."""
    array = np.random.default_rng(1).integers(0, 256, (*size[::-1], channels), np.uint8)
    control = Control(type=ControlType.DEPTH, image=Pixels(array=array))
    given = maker().get_map(control, width=64, height=96)
    found = image_tensors.to_tensor(given, width=64, height=96)
    reference = VaeImageProcessor(do_convert_rgb=True, do_normalize=False)
    image = Image.fromarray(array[:, :, 0] if channels == 1 else array)
    assert torch.equal(found, reference.preprocess(image, height=96, width=64))


def test_edges_are_white_lines_where_the_photo_changes() -> None:
    """Along the border of a square and nowhere else, with nothing configured."""
    array = np.full((64, 96, 3), 20, np.uint8)
    array[20:40, 30:60] = (220, 30, 30)
    found = made(maker(), of_photo(ControlType.CANNY, Pixels(array=array)))
    assert found.shape == (64, 96, 3)
    assert set(np.unique(found)) == {0, 255}
    rows, columns = np.nonzero(found[:, :, 0])
    assert [rows.min(), rows.max()] == pytest.approx([20, 39], abs=1)
    assert [columns.min(), columns.max()] == pytest.approx([30, 59], abs=1)
    assert not found[25:35, 35:55].any()


@pytest.mark.parametrize("kind", [ControlType.DEPTH, ControlType.POSE, ControlType.SEGMENTATION])
def test_without_a_model_the_setting_that_names_one_is_told(kind: ControlType) -> None:
    """The caller learns what to give, and the operator what to set."""
    with pytest.raises(UnsupportedError, match=rf"set `preprocessors\.{kind.value}`"):
        made(maker(), of_photo(kind))


@pytest.mark.parametrize("kind", WRITERS)
def test_a_map_is_made_in_the_size_of_the_image(kind: ControlType, tmp_path: Path) -> None:
    """Also of a grey photo, and the same every time."""
    maps = maker(**{kind.value: WRITERS[kind](tmp_path / "model")})
    found = made(maps, of_photo(kind))
    assert found.shape == (64, 96, 3)
    assert found.dtype == np.uint8
    assert len(np.unique(found)) > 1
    assert np.array_equal(made(maps, of_photo(kind)), found)
    grey = Pixels(array=photo().array[:, :, :1])
    assert made(maps, of_photo(kind, grey)).shape == (64, 96, 3)


def test_depth_is_from_black_to_white(tmp_path: Path) -> None:
    """Grey, and all of the range is used."""
    found = made(maker(depth=tiny_vision.write_depth(tmp_path)), of_photo(ControlType.DEPTH))
    assert np.array_equal(found[:, :, 0], found[:, :, 2])
    assert (found.min(), found.max()) == (0, 255)


def test_segments_have_the_colours_of_ade20k(tmp_path: Path) -> None:
    """And no others."""
    maps = maker(segmentation=tiny_vision.write_segmentation(tmp_path))
    found = made(maps, of_photo(ControlType.SEGMENTATION))
    colours = {tuple(colour) for colour in ADE20K.tolist()}
    assert {tuple(colour) for colour in found.reshape(-1, 3).tolist()} <= colours


def test_the_palette_is_that_of_ade20k() -> None:
    """150 colours: wall, building, sky, floor, tree … and the flag at the end."""
    assert ADE20K.shape == (150, 3)
    assert ADE20K[:3].tolist() == [[120, 120, 120], [180, 120, 120], [6, 230, 230]]
    assert ADE20K[12].tolist() == [150, 5, 61]
    assert ADE20K[-1].tolist() == [92, 0, 255]


def test_people_that_are_not_found_have_no_pose(tmp_path: Path) -> None:
    """A photo without people gives black; without a model for people it is taken for one."""
    pose = tiny_vision.write_pose(tmp_path / "pose")
    cats = tiny_vision.write_people(tmp_path / "cats", sees="cat")
    people = tiny_vision.write_people(tmp_path / "people", sees="person")
    control = of_photo(ControlType.POSE)
    assert not made(maker(pose=pose, people=cats), control).any()
    found = made(maker(pose=pose, people=people), control)
    assert found.any()
    assert not np.array_equal(found, made(maker(pose=pose), control))


@pytest.mark.parametrize(
    ("kind", "write", "message"),
    [
        (
            ControlType.SEGMENTATION,
            lambda folder: tiny_vision.write_segmentation(folder, classes=21),
            "has 21 classes; a model trained on ADE20K has 150",
        ),
        (
            ControlType.POSE,
            lambda folder: tiny_vision.write_pose(folder, joints=133),
            "has 133 joints; a model trained on COCO has 17",
        ),
        (ControlType.DEPTH, tiny_vision.write_segmentation, "the preprocessor .* cannot be loaded"),
    ],
)
def test_a_model_of_another_kind_is_refused(
    kind: ControlType, write: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    """With what it is instead."""
    maps = maker(**{kind.value: write(tmp_path)})
    with pytest.raises(ModelMissingError, match=message):
        made(maps, of_photo(kind))


def test_an_incomplete_model_is_refused(tmp_path: Path) -> None:
    """Random numbers never take the place of weights."""
    folder = tiny_vision.write_depth(tmp_path)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["head.head.4.bias"]
    save_file(tensors, path, {"format": "pt"})
    maps = maker(depth=folder)
    with pytest.raises(ModelMissingError, match=r"1 tensors are missing, head\.head\.4\.bias"):
        made(maps, of_photo(ControlType.DEPTH))


def test_a_model_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    """Before any task needs it."""
    with pytest.raises(ModelMissingError, match="there is no directory"):
        maker(depth=tmp_path / "gone")


def test_openpose_colours_go_round_the_wheel() -> None:
    """As in the list of the original."""
    assert [openpose_drawing.colour(index) for index in (0, 1, 2, 3, 4, 6, 9, 13, 16, 17)] == [
        (255, 0, 0),
        (255, 85, 0),
        (255, 170, 0),
        (255, 255, 0),
        (170, 255, 0),
        (0, 255, 0),
        (0, 255, 255),
        (85, 0, 255),
        (255, 0, 170),
        (255, 0, 85),
    ]


def test_a_person_is_drawn_joint_by_joint() -> None:
    """Each in its colour, with a neck between the shoulders; what is not seen is left out."""
    coco: list[openpose_drawing.Joint | None] = [None] * 17
    coco[0], coco[5], coco[6] = (256, 100), (320, 200), (192, 200)
    person = openpose_drawing.person_from_coco(coco)
    assert person.joints[openpose_drawing.NECK] == (256, 200)
    found = openpose_drawing.draw_poses([person], width=512, height=512)
    assert found[100, 256].tolist() == list(openpose_drawing.colour(0))
    assert found[200, 256].tolist() == list(openpose_drawing.colour(1))
    assert found[200, 192].tolist() == list(openpose_drawing.colour(2))
    assert found[200, 320].tolist() == list(openpose_drawing.colour(5))
    assert found[200, 224].tolist() == [153, 0, 0]  # from neck to right shoulder
    assert found[150, 256].tolist() == [0, 0, 153]  # from neck to nose
    assert not found[300:].any()


@pytest.mark.parametrize("box", [(30.0, 10.0, 40.0, 60.0), (0.0, 0.0, 100.0, 30.0)])
def test_what_is_found_in_a_frame_is_found_in_the_photo(box: pose_crop.Box) -> None:
    """A dot that is cut out with its frame is put back where it was."""
    seen = np.zeros((80, 120, 3), np.uint8)
    seen[19:22, 44:47] = 120
    seen[20, 45] = 255
    frame = pose_crop.expand_box(box, 0.75)
    heat = pose_crop.crop(seen, frame, (192, 256))[:, :, 0].astype(np.float32) / np.float32(255)
    joint = pose_crop.locate_joint(heat, frame)
    assert joint == pytest.approx((45, 20), abs=0.5)
    assert pose_crop.locate_joint(heat * np.float32(pose_crop.MIN_CONFIDENCE), frame) is None
