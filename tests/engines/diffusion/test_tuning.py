"""What is measured on a machine decides how many rows share a run."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from atelier_engines.capabilities import Reproducibility
from atelier_engines.diffusion import DiffusionConfig, DiffusionEngine
from atelier_engines.diffusion.batching import (
    FixedLimit,
    LatentBudget,
    MeasuredLimit,
    choose_limit,
)
from atelier_engines.diffusion.tuning import records
from atelier_engines.diffusion.tuning.benchmark import smallest_near_best
from atelier_engines.diffusion.tuning.records import BatchSizeRecord, TuningKey
from atelier_engines.diffusion.tuning.tune import tune, tuning_key
from tests.engines.diffusion.calls import generate_images, image_task

KEY = TuningKey(model="abc", device="cpu", precision="float32", torch="2")


def record(side: int, rows: int) -> BatchSizeRecord:
    """Of a square image."""
    return BatchSizeRecord(
        width=side,
        height=side,
        latent_pixels=(side // 8) ** 2,
        batch_size=rows,
        milliseconds_per_row={1: 2.0},
    )


@pytest.mark.parametrize(
    ("times", "rows"),
    [
        ({1: 10.0, 2: 5.0, 4: 3.0, 8: 2.0, 16: 1.99}, 8),
        ({1: 10.0, 2: 9.9, 4: 9.8}, 1),
        ({1: 10.0, 2: 11.0, 4: 15.0}, 1),
        ({1: 10.0, 2: 8.0, 4: 12.0}, 2),
        ({1: 10.0}, 1),
    ],
)
def test_the_fewest_rows_that_are_about_as_fast_are_best(
    times: dict[int, float], rows: int
) -> None:
    """Where sharing gains nothing, or loses, every image has its own runs."""
    assert smallest_near_best(times) == rows


def test_a_size_that_was_not_measured_is_limited_like_the_next_larger_one() -> None:
    """And one larger than all by its cells."""
    measured = MeasuredLimit(records=[record(128, 8), record(64, 16)])
    assert [measured(8, 8), measured(9, 9), measured(16, 16)] == [16, 8, 8]
    assert [measured(32, 32), measured(128, 128)] == [2, 1]


def test_the_configuration_has_the_last_word() -> None:
    """Then come measurements, then what is sane."""
    assert choose_limit(3, "cpu", [record(64, 8)]) == FixedLimit(rows=3)
    assert choose_limit(None, "cpu", [record(64, 8)]) == MeasuredLimit(records=[record(64, 8)])
    assert choose_limit(None, "cpu", []) == FixedLimit(rows=1)
    cuda = choose_limit(None, "cuda", [])
    assert isinstance(cuda, LatentBudget)
    assert [cuda(128, 128), cuda(64, 64), cuda(1024, 1024)] == [8, 32, 1]


def test_what_was_measured_is_kept_for_each_subject(tmp_path: Path) -> None:
    """Measuring one again does not touch the others."""
    path = tmp_path / "deep" / "tuning.json"
    other = TuningKey(model="def", device="cuda", precision="float16", torch="2")
    records.write(path, KEY, (record(64, 8),))
    records.write(path, other, (record(64, 4),))
    records.write(path, KEY, (record(128, 2),))
    assert records.read(path, KEY) == (record(128, 2),)
    assert records.read(path, other) == (record(64, 4),)


@pytest.mark.parametrize("text", ["", "[]", '{"records": {"x": [{"batch_size": 0}]}}', "\x00"])
def test_a_broken_file_is_as_good_as_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    """An engine starts all the same, and the log says why nothing is used."""
    path = tmp_path / "tuning.json"
    path.write_text(text, "utf-8")
    with caplog.at_level(logging.WARNING):
        assert records.read(path, KEY) == ()
    assert "tuning_file_ignored" in caplog.text
    records.write(path, KEY, (record(64, 8),))
    assert records.read(path, KEY) == (record(64, 8),)


async def test_an_engine_follows_what_was_measured_of_it(model: Path, tmp_path: Path) -> None:
    """The measurement itself is made, told and kept; and who shares runs promises no bits."""
    path = tmp_path / "tuning.json"
    config = DiffusionConfig(model=str(model), device="cpu", tuning_file=str(path))
    told = list(tune(config))
    assert "batch size" in told[1]
    assert told[-1] == f"written to {path}"

    engine = DiffusionEngine(config)
    await engine.start()
    key = tuning_key(engine.inspect())
    assert told[0] == str(key)
    (kept,) = records.read(path, key)
    assert (kept.width, kept.height, kept.latent_pixels) == (64, 64, 64)
    assert set(kept.milliseconds_per_row) == {1, 2, 4, 8, 16, 32}
    await engine.stop()

    for rows, promise in ((1, Reproducibility.BIT_EXACT), (4, Reproducibility.SAME_ENGINE)):
        records.write(path, key, (record(64, rows),))
        await engine.start()
        assert engine.capabilities.reproducibility is promise
        assert len(await generate_images(engine, image_task(seeds=(1, 2)))) == 2
        await engine.stop()
