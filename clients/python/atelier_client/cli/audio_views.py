"""Shows audio that was made: its waveform in the terminal, its spectrogram as a file."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from atelier_client.errors import InvalidRequestError, MissingPackageError
from atelier_client.results import Generation
from atelier_client.samples import decode_channel, draw_spectrogram, draw_waveform
from atelier_client.tasks import AudioTask, ImageTask
from atelier_client.whole_files import overwrite

_COLUMNS = 64


def check_spectrogram(path: Path | None, task: ImageTask | AudioTask, *, detach: bool) -> None:
    """Refuse a spectrogram of what has none.

    Raises:
        click.UsageError: with what to change.
    """
    if path is None:
        return
    if isinstance(task, ImageTask):
        raise click.UsageError("--spectrogram is an option for audio: add --audio")
    if detach:
        raise click.UsageError("--detach saves nothing: give no --spectrogram")
    if path.suffix.lower() != ".png":
        raise click.UsageError(f"--spectrogram {path}: it is a PNG, give a name that ends in .png")


def show_waveform(generation: Generation) -> None:
    """Print the waveform of the first audio to a terminal; nothing where it cannot be decoded here."""
    if not generation.audio or not sys.stderr.isatty():
        return
    try:
        channel = decode_channel(generation.audio[0].data)
    except MissingPackageError:
        return
    click.echo(draw_waveform(channel, _COLUMNS), err=True)


def save_spectrogram(generation: Generation, path: Path) -> None:
    """Write the spectrogram of the first audio.

    Raises:
        MissingPackageError: a package that it needs is not installed.
        InvalidRequestError: the file cannot be written.
    """
    drawn = draw_spectrogram(decode_channel(generation.audio[0].data))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        overwrite(path, drawn)
    except OSError as error:
        raise InvalidRequestError(f"cannot write {path}: {error.strerror}") from error
