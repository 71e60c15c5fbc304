"""What `atelier tune` does with a diffusion engine."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.model_info import GRID, MIN_SIDE
from atelier_engines.diffusion.tuning import records
from atelier_engines.diffusion.tuning.records import BatchSizeRecord, TuningKey
from atelier_engines.errors import EngineUnavailableError

if TYPE_CHECKING:
    from atelier_engines.diffusion.pipeline import Pipeline

_SHARES = (1.0, 0.5)
"""Sizes that are measured: the default one, and half its width and height."""


def tuning_path(config: DiffusionConfig) -> Path:
    """The file that results are stored in."""
    path = Path(config.tuning_file or records.DEFAULT_PATH)
    try:
        return path.expanduser()
    except RuntimeError:  # users of containers may have no home; then nothing was measured there
        return path


def tuning_key(pipeline: Pipeline) -> TuningKey:
    """What the results of an engine with this model, on its device, are stored under."""
    import torch  # noqa: PLC0415  (the model has loaded it by now)

    device = pipeline.family.runtime.device
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{platform.machine()} cpu, {torch.get_num_threads()} threads"
    runtime = pipeline.info.runtimes["denoiser"]
    return TuningKey(
        model=pipeline.info.model.digest,
        device=name if runtime == "torch" else f"{name}, {runtime}",
        precision=str(pipeline.family.runtime.dtype).removeprefix("torch."),
        torch=torch.__version__,
    )


def tune(config: DiffusionConfig) -> Iterator[str]:
    """Load the model, measure, and store the results; yields a line for people on each.

    Raises:
        EngineError: the model cannot be loaded.
        OSError: the file cannot be written.
    """
    try:
        from atelier_engines.diffusion import loading  # noqa: PLC0415  (takes seconds)
        from atelier_engines.diffusion.tuning import benchmark  # noqa: PLC0415  (the same)
    except ImportError as error:
        raise EngineUnavailableError(
            f"a package is missing: {error}; install atelier-engines[local]"
        ) from error
    pipeline = loading.load(config)
    key = tuning_key(pipeline)
    yield str(key)
    found: list[BatchSizeRecord] = []
    for record in benchmark.measure_sizes(pipeline, _list_sizes(pipeline)):
        found.append(record)
        yield _format(record)
    path = tuning_path(config)
    records.write(path, key, tuple(found))
    yield f"written to {path}"


def _list_sizes(pipeline: Pipeline) -> list[tuple[int, int]]:
    width, height = pipeline.info.width, pipeline.info.height
    return [
        (int(width * share) // GRID * GRID, int(height * share) // GRID * GRID)
        for share in _SHARES
        if min(width, height) * share >= MIN_SIDE
    ]


def _format(record: BatchSizeRecord) -> str:
    times = ", ".join(f"{rows}: {value:.1f}" for rows, value in record.milliseconds_per_row.items())
    return f"{record.width} x {record.height}: batch size {record.batch_size} (ms per row: {times})"
