"""`atelier completion`: the script by which a shell completes commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


_HELP = """Print the script that completes commands, options and names in SHELL.

\b
bash: eval "$(atelier completion bash)" in ~/.bashrc
zsh:  eval "$(atelier completion zsh)" in ~/.zshrc
fish: atelier completion fish > ~/.config/fish/completions/atelier.fish
"""


@click.command("completion", help=_HELP)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion_command(context: click.Context, *, shell: str) -> None:
    """Print the script of a shell."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"no completion for {shell}")
    command = context.find_root().command
    click.echo(kind(command, {}, "atelier", "_ATELIER_COMPLETE").source())
