"""`atelier plan`: the engine, parameters and cost that `generate` would use."""

from __future__ import annotations

import click
from rich.console import Console

from atelier_client.cli.connection import connect
from atelier_client.cli.exit_codes import ExitCode
from atelier_client.cli.json_output import echo_json
from atelier_client.cli.options import connection_options
from atelier_client.cli.parameter_table import build_parameter_table, describe_engine
from atelier_client.cli.speech import choose_speaker
from atelier_client.cli.task_building import build_keywords, build_task
from atelier_client.cli.task_options import TaskArguments, task_options
from atelier_client.results import Plan


@click.command("plan")
@task_options
@connection_options
def plan_command(*, arguments: TaskArguments, server: str, as_json: bool) -> int:
    """Show the engine, parameters and cost that `generate` would use.

    Nothing is started. Exits with 1 if the task would not be accepted now.
    """
    task, keywords = build_task(arguments, None), build_keywords(arguments)
    with connect(server) as client:
        keywords = choose_speaker(client, arguments, keywords)
        plan = client.plan(task, **keywords)
    if as_json:
        echo_json(plan)
    else:
        _print_plan(plan)
    return ExitCode.OK if plan.accepted else ExitCode.FAILED


def _print_plan(plan: Plan) -> None:
    click.echo(f"engine     {describe_engine(plan.engine, plan.selection)}")
    if plan.cost is not None:
        click.echo(f"cost       {plan.cost.amount:g} {plan.cost.currency}")
    if plan.estimated_wait_seconds is not None:
        click.echo(f"wait       {plan.estimated_wait_seconds:.1f} s")
    if plan.estimated_duration_seconds is not None:
        click.echo(f"duration   {plan.estimated_duration_seconds:.1f} s")
    if plan.rejection is not None:
        click.echo(f"rejection  {plan.rejection.message} ({plan.rejection.reason})")
    Console().print(build_parameter_table(plan.parameters))
