"""The sketch engine does what it is configured and asked to do, slow and faulty ways included."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from atelier_engines.capabilities import ImageFeature, Price, PriceUnit
from atelier_engines.engine import Engine
from atelier_engines.errors import (
    EngineFailedError,
    EngineUnavailableError,
    InvalidTaskError,
    ModelMissingError,
)
from atelier_engines.event import Event, Output, Stage, Step
from atelier_engines.media import Encoded, Pixels, Samples
from atelier_engines.preview import preview_from_pixels
from atelier_engines.sketch import ENGINE
from atelier_engines.sketch.config import SketchConfig, SketchOptions
from atelier_engines.sketch.drawing import draw_image, draw_text, random_generator
from atelier_engines.task import JSON, AudioTask, ImageTask, Task

PICTURE = ImageTask(prompt="a lighthouse", width=256, height=192, seeds=(7,), steps=4, guidance=5.0)
SOUND = AudioTask(
    prompt="rain", duration_seconds=0.5, seed=7, sample_rate=16000, channels=2, steps=4
)


@asynccontextmanager
async def sketch(**settings: object) -> AsyncGenerator[Engine]:
    """A started engine of that configuration."""
    engine = ENGINE.create(SketchConfig.model_validate(settings))
    await engine.start()
    yield engine
    await engine.stop()


async def events_of(engine: Engine, task: Task) -> list[Event]:
    """Everything that the task yields."""
    async with aclosing(engine.run(task)) as events:
        return [event async for event in events]


async def pixels_of(engine: Engine, task: Task) -> Pixels:
    """The one picture that the task gives."""
    *_, last = await events_of(engine, task)
    assert isinstance(last, Output)
    assert isinstance(last.media, Pixels)
    return last.media


async def file_of(engine: Engine, task: Task) -> Encoded:
    """The one file that the task gives."""
    *_, last = await events_of(engine, task)
    assert isinstance(last, Output)
    assert isinstance(last.media, Encoded)
    return last.media


async def test_steps_count_over_all_images_of_a_task_and_each_ends_with_its_output() -> None:
    """Two pictures in three steps are six steps, with an output after each third."""
    async with sketch() as engine:
        events = await events_of(engine, replace(PICTURE, seeds=(7, 9), steps=3))
    said = [_said(event) for event in events]
    assert said == ["draw", (1, 6), (2, 6), (3, 6), 7, (4, 6), (5, 6), (6, 6), 9]


async def test_an_image_is_the_same_alone_and_among_others() -> None:
    """What a seed gives does not depend on the other seeds of its task."""
    async with sketch() as engine:
        alone = await pixels_of(engine, replace(PICTURE, seeds=(9,)))
        last = await pixels_of(engine, replace(PICTURE, seeds=(7, 8, 9)))
    assert np.array_equal(alone.array, last.array)


async def test_prompt_negative_prompt_and_guidance_change_the_image() -> None:
    """Nothing that a caller says about the picture is dropped."""
    async with sketch() as engine:
        tasks = (
            PICTURE,
            replace(PICTURE, prompt="a mill"),
            replace(PICTURE, negative_prompt="fog"),
            replace(PICTURE, guidance=9.0),
            replace(PICTURE, options={"font_size": 40}),
        )
        results = {(await pixels_of(engine, task)).array.tobytes() for task in tasks}
    assert len(results) == len(tasks)


async def test_strength_blends_from_the_initial_image_to_the_drawing() -> None:
    """0 keeps the picture to start from, 1 ignores it."""
    start = Pixels(array=np.full((192, 256, 1), 90, np.uint8))
    async with sketch() as engine:
        kept = await pixels_of(engine, replace(PICTURE, init_image=start, strength=0.0))
        ignored = await pixels_of(engine, replace(PICTURE, init_image=start, strength=1.0))
        drawn = await pixels_of(engine, PICTURE)
    assert np.all(kept.array == 90)
    assert np.array_equal(ignored.array, drawn.array)


@pytest.mark.parametrize("size", [(16, 16), (17, 4096), (4096, 16), (96, 64)])
@pytest.mark.parametrize(
    "prompt", ["", "a", "word " * 1600, "x" * 8192, "灯塔 مَنارة 🗼", "\ud800\x00\n\t", "…"]
)
def test_any_text_can_be_drawn_on_any_size(size: tuple[int, int], prompt: str) -> None:
    """Too long is shortened, too small stays bare, what cannot be shown is left out."""
    image = draw_image(size, random_generator(7, prompt), 5.0)
    draw_text(image, prompt, prompt, None)
    assert image.size == size


def test_text_is_bright_on_dark_at_the_bottom_of_the_image() -> None:
    """The prompt can be read on white ground too."""
    image = Image.new("RGB", (256, 256), "white")
    draw_text(image, "a lighthouse", "", None)
    pixels = np.asarray(image).astype(int)
    assert np.all(pixels[:128] == 255)
    foot = pixels[-24:]
    assert foot.min() < 160
    assert foot.max() == 255


async def test_previews_come_at_the_interval_and_become_sharper() -> None:
    """The last one resembles the picture more than the first."""
    async with sketch(preview_pixels=64) as engine:
        events = await events_of(engine, replace(PICTURE, steps=6, preview_interval=2))
    steps = [event for event in events if isinstance(event, Step)]
    previews = {step.index: step.preview for step in steps if step.preview is not None}
    assert list(previews) == [2, 4, 6]
    assert {(preview.width, preview.height) for preview in previews.values()} == {(64, 48)}
    picture = events[-1]
    assert isinstance(picture, Output)
    assert isinstance(picture.media, Pixels)
    goal = _decoded(preview_from_pixels(picture.media, max_side=64))
    apart = [np.abs(_decoded(preview) - goal).mean() for preview in previews.values()]
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < apart[0]


def test_a_preview_of_a_greyscale_or_small_image_is_a_jpeg_of_its_own_size() -> None:
    """Nothing is enlarged, and one channel is as good as three."""
    preview = preview_from_pixels(Pixels(array=np.zeros((20, 30, 1), np.uint8)))
    assert preview.media_type == "image/jpeg"
    assert _decoded(preview).shape == (20, 30, 3)


def test_a_preview_of_a_large_image_is_shrunk_to_its_longest_side() -> None:
    """The shape stays."""
    preview = preview_from_pixels(Pixels(array=np.zeros((300, 600, 3), np.uint8)), max_side=100)
    assert (preview.width, preview.height) == (100, 50)
    assert _decoded(preview).shape == (50, 100, 3)


async def test_the_fail_rate_selects_that_fraction_of_seeds() -> None:
    """The same seeds fail in every engine of that rate, after work was begun."""

    async def failing(rate: float) -> set[int]:
        failed = set()
        async with sketch(fail_rate=rate, output_bytes=8192) as engine:
            for seed in range(200):
                try:
                    await events_of(engine, replace(PICTURE, seeds=(seed,)))
                except EngineFailedError:
                    failed.add(seed)
        return failed

    some = await failing(0.25)
    assert 25 <= len(some) <= 75
    assert await failing(0.25) == some
    assert some < await failing(0.5)
    assert await failing(0.0) == set()
    assert await failing(1.0) == set(range(200))


@pytest.mark.parametrize("task", [PICTURE, SOUND])
async def test_a_task_with_the_option_fail_fails_half_way(task: Task) -> None:
    """Progress is seen before the failure; `fail: false` overrides the rate."""
    async with sketch(fail_rate=1.0) as engine:
        async with aclosing(engine.run(task)) as events:
            seen = [await anext(events) for _ in range(3)]
            with pytest.raises(EngineFailedError, match="as configured"):
                await anext(events)
        assert [event.index for event in seen if isinstance(event, Step)] == [1, 2]
        assert await events_of(engine, replace(task, options={"fail": False}))


async def test_a_hanging_task_finishes_no_step_until_it_is_closed() -> None:
    """It is under way, and closing it returns at once."""
    async with sketch(hang=True) as engine:
        run = engine.run(PICTURE)
        assert await anext(run) == Stage(name="draw")
        stuck = asyncio.ensure_future(anext(run))
        done, _ = await asyncio.wait([stuck], timeout=0.05)
        assert not done
        stuck.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stuck
        await run.aclose()
        assert await events_of(engine, replace(PICTURE, options={"hang": False}))


async def test_a_delay_is_spread_over_the_steps_and_cut_short_by_closing() -> None:
    """An hour's task closes within its first step."""
    async with sketch(delay_seconds=3600) as engine, asyncio.timeout(300):
        run = engine.run(replace(PICTURE, steps=1000))
        await anext(run)
        first = asyncio.ensure_future(anext(run))
        done, _ = await asyncio.wait([first], timeout=0.05)
        assert not done
        first.cancel()
        await asyncio.wait([first])
        await run.aclose()
        assert await events_of(engine, replace(PICTURE, options={"delay_seconds": 0}))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"delay_seconds": -1}, "options.delay_seconds"),
        ({"font_size": "large"}, "options.font_size"),
        ({"colour": "red"}, "options.colour"),
    ],
)
async def test_a_bad_option_is_an_invalid_task_and_is_named(
    options: Mapping[str, JSON], field: str
) -> None:
    """The field stands in the error as the caller wrote it."""
    async with sketch() as engine:
        with pytest.raises(InvalidTaskError) as refused:
            await events_of(engine, replace(PICTURE, options=options))
    assert refused.value.field == field


async def test_a_whole_number_sent_as_a_float_is_accepted() -> None:
    """Structs of the contract know no integers."""
    async with sketch() as engine:
        assert await events_of(engine, replace(PICTURE, options={"font_size": 20.0}))


@pytest.mark.parametrize("size", [(16, 16), (592, 592), (4096, 4096)])
@pytest.mark.parametrize("length", [8192, 1_000_003])
async def test_a_file_of_fixed_size_has_exactly_that_size_and_is_a_valid_png(
    size: tuple[int, int], length: int
) -> None:
    """It decodes, has the size asked for, and says its seed."""
    width, height = size
    async with sketch(output_bytes=length) as engine:
        first = await file_of(engine, replace(PICTURE, width=width, height=height))
        other = await file_of(
            engine, replace(PICTURE, width=width, height=height, seeds=(2**63 - 1,))
        )
    assert len(first.data) == len(other.data) == length
    for file, seed in ((first, 7), (other, 2**63 - 1)):
        with Image.open(io.BytesIO(file.data)) as image:
            image.verify()
        with Image.open(io.BytesIO(file.data)) as image:
            image.load()
            assert image.size == size
            assert int(image.info["Seed"]) == seed


async def test_images_are_chosen_by_seed_and_cropped_to_size(tmp_path: Path) -> None:
    """Any mode and shape of file will do; the rest of the folder is let be."""
    Image.new("RGB", (300, 100), "red").save(tmp_path / "1.png")
    Image.new("RGBA", (10, 20), "blue").save(tmp_path / "2.WEBP")
    (tmp_path / "readme.txt").write_text("not a picture")
    async with sketch(image_directory=tmp_path) as engine:
        red, blue, again = [
            await pixels_of(engine, replace(PICTURE, seeds=(seed,))) for seed in (0, 1, 2)
        ]
    assert (red.width, red.height) == (256, 192)
    assert tuple(red.array[0, 0]) == (255, 0, 0)
    assert blue.array[0, 0, 2] > 200
    assert np.array_equal(red.array, again.array)


async def test_a_single_image_does_not_claim_seeds(tmp_path: Path) -> None:
    """The engine claims nothing that it cannot hold."""
    Image.new("RGB", (64, 64)).save(tmp_path / "only.jpeg")
    async with sketch(image_directory=tmp_path) as engine:
        assert engine.capabilities.image is not None
        assert engine.capabilities.image.features == {ImageFeature.PREVIEW}


@pytest.mark.parametrize("folder", ["missing", "empty"])
async def test_a_directory_without_images_cannot_start(tmp_path: Path, folder: str) -> None:
    """The error says where it looked."""
    (tmp_path / "empty").mkdir()
    engine = ENGINE.create(SketchConfig(image_directory=tmp_path / folder))
    with pytest.raises(ModelMissingError, match=folder):
        await engine.start()


async def test_a_missing_directory_fails_the_check_and_a_broken_image_its_task(
    tmp_path: Path,
) -> None:
    """Both name what is wrong."""
    file = tmp_path / "1.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    async with sketch(image_directory=tmp_path) as engine:
        with pytest.raises(EngineFailedError, match=r"1\.png"):
            await events_of(engine, PICTURE)
        file.unlink()
        with pytest.raises(ModelMissingError):
            await engine.check()


async def test_an_engine_that_is_not_started_is_unavailable() -> None:
    """Neither check nor run pretends."""
    engine = ENGINE.create(SketchConfig())
    with pytest.raises(EngineUnavailableError):
        await engine.check()
    with pytest.raises(EngineUnavailableError):
        await events_of(engine, PICTURE)


async def sound_of(engine: Engine, task: AudioTask) -> Samples:
    """The one sound that the task gives."""
    *_, last = await events_of(engine, task)
    assert isinstance(last, Output)
    assert isinstance(last.media, Samples)
    return last.media


async def test_a_loop_continues_over_its_end_and_other_audio_fades_in_and_out() -> None:
    """What a listener hears where the end meets the beginning."""
    async with sketch() as engine:
        loop = await sound_of(engine, replace(SOUND, seamless_loop=True))
        once = await sound_of(engine, SOUND)
    assert np.abs(loop.array[:80]).max() > 0.1
    assert abs(once.array[0]).max() < 1e-3
    assert abs(once.array[-1]).max() < 1e-3


async def test_audio_depends_on_seed_and_prompt_and_its_channels_differ() -> None:
    """Stereo is more than the same twice."""
    async with sketch() as engine:
        one = await sound_of(engine, SOUND)
        seed = await sound_of(engine, replace(SOUND, seed=8))
        prompt = await sound_of(engine, replace(SOUND, prompt="wind"))
        many = await sound_of(engine, replace(SOUND, steps=1000))
    assert one.array.shape == (8000, 2)
    assert not np.array_equal(one.array[:, 0], one.array[:, 1])
    assert not np.array_equal(one.array, seed.array)
    assert not np.array_equal(one.array, prompt.array)
    assert np.array_equal(one.array, many.array)


def test_a_price_is_shown_and_two_image_sources_are_rejected(tmp_path: Path) -> None:
    """Configuration errors are found when it is read."""
    priced = ENGINE.create(SketchConfig(price_per_image=0.02))
    assert priced.capabilities.price == Price(amount=0.02, unit=PriceUnit.IMAGE)
    with pytest.raises(ValidationError, match="not both"):
        SketchConfig(image_directory=tmp_path, output_bytes=8192)
    with pytest.raises(ValidationError, match="colour"):
        SketchConfig.model_validate({"colour": "red"})


def test_every_setting_and_option_is_described() -> None:
    """The reference of the configuration is made from the descriptions."""
    for model in (SketchConfig, SketchOptions):
        assert all(field.description for field in model.model_fields.values())


def _said(event: Event) -> object:
    match event:
        case Stage(name=name):
            return name
        case Step(index=index, total=total):
            return index, total
        case Output(seed=seed):
            return seed
        case _:
            return event


def _decoded(preview: Encoded) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    with Image.open(io.BytesIO(preview.data)) as image:
        return np.asarray(image.convert("RGB")).astype(np.float64)
