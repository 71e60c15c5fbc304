"""Images that do not fit are refused by name of what would, and profiles change what fits."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.diffusion.memory.estimator import Footprint, ImageWork, MemoryEstimator
from atelier_engines.errors import OutOfMemoryError
from atelier_engines.event import Output
from atelier_engines.local import devices
from atelier_engines.local.peak_memory import PeakMemoryTracker
from atelier_engines.task import ResourceProfile
from tests.engines.diffusion.calls import collect_events, generate_images, image_task
from tests.engines.diffusion.inspection import unet_of

CPU = torch.device("cpu")
HUGE = 2**25
"""Latents of this side take more memory than a process can address."""


def test_the_meter_counts_what_lives_at_once() -> None:
    """Views take nothing, and what is dropped no longer counts."""
    with torch.inference_mode(), PeakMemoryTracker() as tracker:
        first = torch.zeros(1000)
        second = first + 1
        del first
        third = second.view(10, 100) * 2
        del second
        assert tracker.peak == 8000
        fourth, fifth = third + 1, third + 2
        assert tracker.peak == 12000
        del fourth, fifth


def test_what_was_there_before_is_not_counted() -> None:
    """Weights and inputs are somebody else's."""
    given = torch.zeros(1000)
    with torch.inference_mode(), PeakMemoryTracker() as tracker:
        given.view(10, 100)[3].add_(1)
        assert tracker.peak == 0


def estimator_of(engine: DiffusionEngine) -> MemoryEstimator:
    """Its estimates."""
    return engine.inspect().memory


@pytest.mark.parametrize(("width", "height"), [(256, 256), (512, 192)])
def test_the_estimate_from_small_images_holds_for_large_ones(
    engine: DiffusionEngine, width: int, height: int
) -> None:
    """Within a tenth of what the work then takes."""
    family, memory = engine.inspect().family, estimator_of(engine)
    latents = torch.zeros(family.latent_shape(width, height))
    conditioning = family.condition("", "", guidance=2.0, width=width, height=height)
    with torch.inference_mode():
        with PeakMemoryTracker() as decoding:
            family.decode(latents)
        with PeakMemoryTracker() as denoising:
            family.runtime.denoiser.predict(
                latents.repeat(2, 1, 1, 1), torch.zeros(2), conditioning
            )
    taken = max(decoding.peak, denoising.peak)
    work = ImageWork(width=width, height=height, rows=2)
    assert memory.estimate_bytes(work) == pytest.approx(taken, rel=0.1)


def made(room: int, *, max_side: int = 2**20, max_pixels: int = 2**40) -> MemoryEstimator:
    """Estimates by which images of `room` pixels are the largest."""
    footprint = Footprint(device=CPU)
    slope = 64 * devices.available(CPU) // (3 * room)
    footprint.fit("denoise", (0, 0), (1, slope // 100))
    footprint.fit("decode", (0, 0), (1, slope))
    return MemoryEstimator(
        footprint=footprint, vae_scale_factor=8, max_side=max_side, max_pixels=max_pixels
    )


@pytest.mark.parametrize(
    ("asked", "limits", "largest"),
    [
        ((4096, 4096), {}, (1000, 1000)),
        ((4096, 2048), {}, (1408, 704)),
        ((64, 10**6), {}, (64, 15616)),
        ((4096, 4096), {"max_side": 512}, (512, 512)),
        ((4096, 2048), {"max_pixels": 512 * 256}, (512, 256)),
    ],
)
def test_the_largest_size_keeps_the_proportions(
    asked: tuple[int, int], limits: dict[str, int], largest: tuple[int, int]
) -> None:
    """As far as the limits of the engine let it."""
    memory = made(10**6, **limits)
    work = ImageWork(width=asked[0], height=asked[1], rows=1)
    found = memory.find_largest(work)
    assert found is not None
    assert found == pytest.approx(largest, rel=0.05)
    assert found[0] % 8 == found[1] % 8 == 0
    assert found[0] * found[1] <= limits.get("max_pixels", 2**40)
    assert max(found) <= limits.get("max_side", 2**20)


def test_what_has_failed_is_not_recommended() -> None:
    """Whatever the estimate says."""
    memory = made(10**7)
    work = ImageWork(width=512, height=512, rows=1)
    assert memory.find_largest(work) is not None
    assert "440 x 440" in memory.suggest_size(work, failed=True)


def test_where_nothing_fits_no_size_is_named() -> None:
    """Not even the smallest image."""
    assert "no image fits" in made(4000).suggest_size(ImageWork(width=512, height=512, rows=1))


async def test_an_image_that_cannot_fit_is_refused_before_any_work(
    engine: DiffusionEngine,
) -> None:
    """The message names a size, and the next task runs."""
    with pytest.raises(OutOfMemoryError, match="the largest image that fits is") as caught:
        await generate_images(engine, image_task(width=HUGE, height=HUGE))
    assert f"{HUGE} x {HUGE} pixels does not fit into the memory of cpu" in str(caught.value)
    width, height = map(int, re.findall(r"is (\d+) x (\d+)$", str(caught.value))[0])
    assert width == height <= 2048
    assert await generate_images(engine, image_task())


async def test_memory_that_ends_during_the_work_fails_that_image_alone(
    engine: DiffusionEngine,
) -> None:
    """Torch refuses to make a tensor in the middle of a run; the others of the batch go on."""
    unet = unet_of(engine)
    hook = unet.register_forward_pre_hook(
        lambda _, inputs: torch.empty(2**50) if inputs[0].shape[-1] == 16 else None
    )
    try:
        failed, fine = await asyncio.gather(
            generate_images(engine, image_task(width=128, height=128)),
            generate_images(engine, image_task()),
            return_exceptions=True,
        )
    finally:
        hook.remove()
    assert isinstance(failed, OutOfMemoryError)
    assert "an image of 128 x 128 pixels does not fit" in str(failed)
    assert "the largest image that fits is 104 x 104" in str(failed)
    assert isinstance(fine, list)
    assert np.array_equal(fine, await generate_images(engine, image_task()))


LIMITED = """
import asyncio, re, resource, sys
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.errors import OutOfMemoryError
from tests.engines.diffusion.calls import image_task, generate_images

async def main():
    config = DiffusionConfig(
        model=sys.argv[1], device="cpu", max_side=8192, max_pixels=2**26
    )
    engine = DiffusionEngine(config)
    await engine.start()
    used = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20, resource.RLIM_INFINITY))
    try:
        await generate_images(engine, image_task(width=4096, height=2048, steps=1))
    except OutOfMemoryError as error:
        found = re.search(r"fits is (\\d+) x (\\d+)", str(error))
        width, height = int(found[1]), int(found[2])
        made = await generate_images(engine, image_task(width=width, height=height, steps=1))
        print(width, height, made[0].shape[1], made[0].shape[0])
    await engine.stop()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc are Linux's")
def test_the_size_that_is_named_does_fit(model: Path) -> None:
    """In a process that may address 200 MB more than it does."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(model)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    width, height, *shape = map(int, done.stdout.split())
    assert [width, height] == shape
    assert 512 * 256 < width * height < 4096 * 2048


async def test_the_profile_memory_decodes_in_tiles_as_diffusers_does(
    engine: DiffusionEngine, pipeline: StableDiffusionXLPipeline
) -> None:
    """A caller's choice is nobody else's."""
    size = {"width": 128, "height": 192}
    (whole,), (tiled,), (again,) = await asyncio.gather(
        generate_images(engine, image_task(**size)),
        generate_images(engine, image_task(**size, resource_profile=ResourceProfile.MEMORY)),
        generate_images(engine, image_task(**size, resource_profile=ResourceProfile.SPEED)),
    )
    pipeline.vae.enable_tiling()
    try:
        wanted = pipeline(
            "a red apple",
            **size,
            num_inference_steps=3,
            guidance_scale=5.0,
            generator=torch.Generator("cpu").manual_seed(7),
        ).images[0]
    finally:
        pipeline.vae.disable_tiling()
    assert np.array_equal(tiled, np.asarray(wanted))
    assert np.array_equal(whole, again)
    assert not np.array_equal(whole, tiled)


async def test_an_output_tells_the_memory_that_it_took(engine: DiffusionEngine) -> None:
    """As estimated from what was measured; more pixels take more."""
    told = []
    for side in (64, 128):
        events = await collect_events(engine, image_task(width=side, height=side))
        told += [event.memory_bytes for event in events if isinstance(event, Output)]
    assert 0 < told[0] < told[1]


async def test_an_engine_may_be_configured_to_save_memory(
    model: Path, engine: DiffusionEngine
) -> None:
    """Then whoever says nothing gets tiles, and whoever wants speed gets none."""
    saving = DiffusionEngine(
        DiffusionConfig(model=str(model), device="cpu", profile=ResourceProfile.MEMORY)
    )
    await saving.start()
    asked = image_task(width=128, height=192, resource_profile=ResourceProfile.MEMORY)
    (wanted,) = await generate_images(engine, asked)
    (tiled,) = await generate_images(saving, image_task(width=128, height=192))
    (fast,) = await generate_images(
        saving, image_task(width=128, height=192, resource_profile=ResourceProfile.SPEED)
    )
    await saving.stop()
    assert np.array_equal(tiled, wanted)
    assert not np.array_equal(fast, wanted)


def test_a_caller_may_choose_the_profile(engine: DiffusionEngine) -> None:
    """All of them."""
    assert engine.capabilities.image is not None
    assert engine.capabilities.image.resource_profiles == tuple(ResourceProfile)


@pytest.mark.parametrize(
    ("configured", "limit"),
    [(None, None), (12345.0, 12345), (0.5, devices.total(CPU) // 2), (1.0, devices.total(CPU))],
)
def test_a_budget_is_bytes_or_a_fraction(configured: float | None, limit: int | None) -> None:
    """On a CPU there is none unless one is set."""
    assert devices.budget(configured, CPU) == limit


def test_what_is_left_is_less_than_what_is_there() -> None:
    """Numbers of the system, the container and the process."""
    assert 0 < devices.available(CPU) < devices.total(CPU)
