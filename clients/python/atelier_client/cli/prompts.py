"""Reads the prompt: from the command line, a file, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path

import click

STDIN = "-"
"""Names standard input instead of a prompt or of a file."""


def read_prompt(prompt: str | None, file: str | None, *, required: bool) -> str:
    """The prompt, or the text of the file without white space around it.

    Raises:
        click.UsageError: there is no prompt, or one too many, or the text cannot be read.
    """
    if prompt is not None and file is not None:
        raise click.UsageError("give either PROMPT or --prompt-file")
    if file is not None or prompt == STDIN:
        return _read_text(file or STDIN)
    if prompt is None and required:
        raise click.UsageError(
            "Missing argument 'PROMPT': the text, - for standard input, or --prompt-file FILE"
        )
    return prompt or ""


def _read_text(file: str) -> str:
    source = "standard input" if file == STDIN else file
    try:
        data = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
        text = data.decode("utf-8-sig").strip()
    except OSError as error:
        raise click.UsageError(f"cannot read the prompt from {source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"the prompt in {source} is not UTF-8 text") from error
    if not text:
        raise click.UsageError(f"there is no prompt in {source}")
    return text
