"""What `atelier tune` does with a diffusion engine."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.tuning import records
from atelier_engines.diffusion.tuning.records import SizeRecord, Subject
from atelier_engines.errors import EngineUnavailableError

if TYPE_CHECKING:
    from atelier_engines.diffusion.pipeline import Pipeline

_SHARES = (1.0, 0.5)
"""Sizes that are measured: the default one, and half its width and height."""


def path_of(config: DiffusionConfig) -> Path:
    """Where what was measured is kept."""
    path = Path(config.tuning_file or records.DEFAULT)
    try:
        return path.expanduser()
    except RuntimeError:  # users of containers may have no home; then nothing was measured there
        return path


def subject_of(painter: Pipeline) -> Subject:
    """What an engine with this model, on its device, is measured as."""
    import torch  # noqa: PLC0415  (the model has loaded it by now)

    device = painter.family.runtime.device
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{platform.machine()} cpu, {torch.get_num_threads()} threads"
    return Subject(
        model=painter.facts.model.digest,
        device=name,
        precision=str(painter.family.runtime.dtype).removeprefix("torch."),
        torch=torch.__version__,
    )


def tune(config: DiffusionConfig) -> Iterator[str]:
    """Load the model, measure, and keep what was found; a line for people on each thing.

    Raises:
        EngineError: the model cannot be loaded.
        OSError: the file cannot be written.
    """
    try:
        from atelier_engines.diffusion import loading  # noqa: PLC0415  (takes seconds)
        from atelier_engines.diffusion.tuning import measuring  # noqa: PLC0415  (the same)
    except ImportError as error:
        raise EngineUnavailableError(
            f"a package is missing: {error}; install atelier-engines[local]"
        ) from error
    painter = loading.load(config)
    subject = subject_of(painter)
    yield subject.key
    found: list[SizeRecord] = []
    for record in measuring.measure(painter, _sizes(painter)):
        found.append(record)
        yield _line(record)
    records.write(path_of(config), subject, tuple(found))
    yield f"written to {path_of(config)}"


def _sizes(painter: Pipeline) -> list[tuple[int, int]]:
    width, height = painter.facts.width, painter.facts.height
    grid = 8
    return [
        (int(width * share) // grid * grid, int(height * share) // grid * grid)
        for share in _SHARES
        if min(width, height) * share >= 64  # noqa: PLR2004 (no engine paints smaller pictures)
    ]


def _line(record: SizeRecord) -> str:
    times = ", ".join(f"{rows}: {value:.1f}" for rows, value in record.milliseconds_a_row.items())
    return f"{record.width} x {record.height}: {record.rows} rows in a run (ms a row: {times})"
