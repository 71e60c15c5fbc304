"""`atelier plan`: what `generate` would do, without doing it."""

from __future__ import annotations

import click
from rich.console import Console

from atelier_client.cli.exit_codes import ExitCode
from atelier_client.cli.generations import parameter_table
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connect, connection_options
from atelier_client.cli.task_options import (
    TaskArguments,
    keywords_from,
    task_from,
    task_options,
)
from atelier_client.results import Plan


@click.command("plan")
@task_options
@connection_options
def plan_command(*, arguments: TaskArguments, server: str, as_json: bool) -> int:
    """Say what `generate` with the same options would do and cost.

    Exits with 1 when it would not be accepted now.
    """
    with connect(server) as client:
        plan = client.plan(task_from(arguments, None), **keywords_from(arguments))
    if as_json:
        echo_json(plan)
    else:
        _tell(plan)
    return ExitCode.OK if plan.accepted else ExitCode.FAILED


def _tell(plan: Plan) -> None:
    click.echo(f"engine     {plan.engine}")
    if plan.cost is not None:
        click.echo(f"cost       {plan.cost.amount:g} {plan.cost.currency}")
    if plan.expected_wait_seconds is not None:
        click.echo(f"wait       {plan.expected_wait_seconds:.1f} s")
    if plan.expected_duration_seconds is not None:
        click.echo(f"duration   {plan.expected_duration_seconds:.1f} s")
    if plan.rejection is not None:
        click.echo(f"rejection   {plan.rejection.message} ({plan.rejection.reason})")
    Console().print(parameter_table(plan.parameters))
