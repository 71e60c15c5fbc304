"""Runs one command line; every error becomes one line on stderr and an exit code."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

import click

from atelier_client.cli.exit_codes import EPILOG, ExitCode, exit_code_for
from atelier_client.cli.group import CommandGroup
from atelier_client.errors import AtelierError, InvalidRequestError


@click.group(
    cls=CommandGroup,
    epilog=EPILOG,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="atelier-client")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
@click.pass_context
def atelier(context: click.Context, *, debug: bool) -> None:
    """Generate images and audio with an Atelier server."""
    _ = debug  # read from the command line, where errors are shown
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors go to stderr as one line."""
    try:
        result = atelier.main(list(arguments), prog_name="atelier", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - a traceback only with --debug
        if "--debug" in arguments:
            traceback.print_exc()
        return _print_error(error)
    except KeyboardInterrupt:
        return _print_error(click.Abort())
    return result if isinstance(result, int) else ExitCode.OK


def _print_error(error: Exception) -> int:
    """Print an error in one line, and return its exit code."""
    code: int
    match error:
        case AtelierError():
            line, code = format_error(error), exit_code_for(error)
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


def format_error(error: AtelierError) -> str:
    """The message, the invalid fields and the reason of an error in one line."""
    parts = [str(error)]
    if isinstance(error, InvalidRequestError):
        parts += [
            f"{violation.field}: {violation.message}"
            for violation in error.violations
            if violation.message not in str(error)
        ]
    reason = f" ({error.reason})" if error.reason else ""
    return " ".join("; ".join(parts).split()) + reason
