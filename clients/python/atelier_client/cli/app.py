"""Runs one command line: parses it, and turns whatever goes wrong into one line and a code."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

import click

from atelier_client.cli.exit_codes import EPILOG, ExitCode, exit_code_of
from atelier_client.cli.group import CommandGroup
from atelier_client.errors import AtelierError, InvalidRequestError


@click.group(
    cls=CommandGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="atelier-client")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
def atelier(*, debug: bool) -> None:
    """Make pictures and sounds with an Atelier server."""
    _ = debug  # read from the context, where errors are shown


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors go to stderr as one line."""
    try:
        result = atelier.main(list(arguments), prog_name="atelier", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - never a traceback unasked
        if "--debug" in arguments:
            traceback.print_exc()
        return _tell(error)
    except KeyboardInterrupt:
        return _tell(click.Abort())
    return result if isinstance(result, int) else ExitCode.OK


def _tell(error: Exception) -> int:
    """Say in one line what went wrong, and return the exit code for it."""
    code: int
    match error:
        case AtelierError():
            line, code = error_line(error), exit_code_of(error)
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "atelier"
            line = f"{error.format_message()} (see {command} --help)"
            code = ExitCode.INVALID
        case click.ClickException():
            line, code = error.format_message(), error.exit_code
        case click.Abort():
            line, code = "interrupted", ExitCode.INTERRUPTED
        case _:
            line = f"{type(error).__name__}: {error} (unexpected; `atelier --debug …` shows where)"
            code = ExitCode.FAILED
    click.echo(f"error: {line}", err=True)
    return code


def error_line(error: AtelierError) -> str:
    """What happened, which fields are to blame, and the reason, in one line."""
    parts = [str(error)]
    if isinstance(error, InvalidRequestError):
        parts += [
            f"{violation.field}: {violation.message}"
            for violation in error.violations
            if violation.message not in str(error)
        ]
    reason = f" ({error.reason})" if error.reason else ""
    return " ".join("; ".join(parts).split()) + reason
