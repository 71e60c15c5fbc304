"""`atelier rerun`: runs the task of a generation again."""

from __future__ import annotations

from dataclasses import replace

import click

from atelier_client.cli.completion_values import complete_engine, complete_id
from atelier_client.cli.connection import connect
from atelier_client.cli.generation_ids import resolve_id
from atelier_client.cli.options import server_option
from atelier_client.cli.output_checks import choose_format
from atelier_client.cli.task_running import RunArguments, run_options, run_task
from atelier_client.results import Generation
from atelier_client.tasks import RequestKeywords

_RANDOM = "random"


def _parse_seed(text: str) -> int | str:
    if text != _RANDOM and not text.isdecimal():
        raise click.BadParameter(f"{text!r} is not a number or {_RANDOM}")
    return text if text == _RANDOM else int(text)


@click.command("rerun")
@click.argument("generation_id", metavar="ID", shell_complete=complete_id)
@click.option(
    "--seed",
    type=_parse_seed,
    metavar="NUMBER|random",
    help="[default: the seed that it had]",
)
@click.option(
    "--engine", default="", shell_complete=complete_engine, help="[default: the one that ran it]"
)
@run_options
@server_option
def rerun_command(
    *, generation_id: str, seed: int | str | None, engine: str, run: RunArguments, server: str
) -> int:
    """Run the task of the generation ID again, with its seed unless another is given.

    Options of the engine (`--option`) are not part of what is kept.
    """
    target = run.parse_target()
    with connect(server) as client:
        before = client.get(resolve_id(client, generation_id))
        task = replace(before.task, seed=_choose_seed(before, seed))
        keywords = RequestKeywords(engine=engine or before.engine)
        return run_task(client, choose_format(task, target), keywords, target, run)


def _choose_seed(before: Generation, seed: int | str | None) -> int | None:
    """The seed for the first output; None for a random one."""
    if isinstance(seed, int):
        return seed
    if seed == _RANDOM:
        return None
    return before.outputs[0].seed if before.outputs else before.task.seed
