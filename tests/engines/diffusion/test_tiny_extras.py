"""What ships beside the small trained model: its ControlNet and its LoRA, as diffusers loads them."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLPipeline,
)
from numpy.typing import NDArray

from atelier_tiny import CONTROLNETS, LORAS, WEIGHTS

STAR = (
    (64, 12), (77, 48), (115, 48), (84, 71), (96, 108), (64, 85), (32, 108), (44, 71), (13, 48),
    (51, 48),
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Busy machines are slow with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def plain() -> StableDiffusionXLPipeline:
    """The model alone."""
    made = StableDiffusionXLPipeline.from_pretrained(
        WEIGHTS, dtype=torch.float32, add_watermarker=False
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def controlled(plain: StableDiffusionXLPipeline) -> StableDiffusionXLControlNetPipeline:
    """The same networks, with the ControlNet beside them."""
    made = StableDiffusionXLControlNetPipeline(
        **plain.components,
        controlnet=ControlNetModel.from_pretrained(CONTROLNETS["canny"], dtype=torch.float32),
        add_watermarker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def drawn(pipeline: StableDiffusionXLPipeline, prompt: str, **more: object) -> NDArray[np.uint8]:
    """One image in four steps, the same for the same words."""
    return np.asarray(
        pipeline(
            prompt,
            num_inference_steps=4,
            guidance_scale=2.5,
            generator=torch.Generator("cpu").manual_seed(7),
            **more,
        ).images[0]
    )


def edges_of(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Canny's, 255 on an edge."""
    return np.asarray(cv2.Canny(picture, 100, 200))


def star() -> NDArray[np.uint8]:
    """The edges of a star, [128, 128]."""
    page = np.full((128, 128, 3), 255, np.uint8)
    cv2.fillPoly(page, [np.array(STAR)], (40, 40, 40))
    return edges_of(page)


def as_control(edges: NDArray[np.uint8]) -> torch.Tensor:
    """[1, 3, 128, 128] in 0..1."""
    return torch.from_numpy(edges)[None, None].repeat(1, 3, 1, 1).float() / 255


def share_met(wanted: NDArray[np.uint8], picture: NDArray[np.uint8]) -> float:
    """How many of the wanted edges lie within two pixels of one of the image's."""
    near = np.asarray(cv2.dilate(edges_of(picture), np.ones((5, 5), np.uint8)), np.uint8)
    return float((wanted & near).sum() / wanted.sum(dtype=float))


def colourfulness(picture: NDArray[np.uint8]) -> float:
    """How far the channels lie apart, on average; 0 for a grey image."""
    return float(np.ptp(picture.astype(int), axis=2).mean())


def test_its_controlnet_changes_nothing_at_strength_zero(
    plain: StableDiffusionXLPipeline, controlled: StableDiffusionXLControlNetPipeline
) -> None:
    """Not a bit of the image."""
    made = drawn(
        controlled, "a red ball", image=as_control(star()), controlnet_conditioning_scale=0.0
    )
    assert np.array_equal(made, drawn(plain, "a red ball"))


def test_images_follow_its_controlnet(
    plain: StableDiffusionXLPipeline, controlled: StableDiffusionXLControlNetPipeline
) -> None:
    """The edges of a star are met when a ball is asked for, and not without."""
    edges = star()
    made = drawn(controlled, "a blue ball", image=as_control(edges))
    assert share_met(edges, made) > 0.7
    assert share_met(edges, drawn(plain, "a blue ball")) < 0.4


def test_its_lora_draws_in_pencil_and_leaves_no_trace() -> None:
    """At weight 0 and after it, every image is the plain one; at 1 the colours are gone."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        WEIGHTS, dtype=torch.float32, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    before = drawn(pipeline, "a red heart")
    pipeline.load_lora_weights(LORAS["sketch"], adapter_name="sketch")
    pipeline.set_adapters("sketch", 0.0)
    assert np.array_equal(drawn(pipeline, "a red heart"), before)
    pipeline.set_adapters("sketch", 1.0)
    sketched = drawn(pipeline, "a red heart")
    assert colourfulness(sketched) < colourfulness(before) / 5
    pipeline.unload_lora_weights()
    assert np.array_equal(drawn(pipeline, "a red heart"), before)


def test_the_weights_are_small() -> None:
    """Small enough to live in the repository: at most 30 MB, and 10 MB for what comes beside."""
    added = (*CONTROLNETS.values(), *LORAS.values())
    assert len(added) == 2
    for folder, most in ((WEIGHTS, 30), *((folder, 10) for folder in added)):
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        assert 0 < size < most * 1e6
