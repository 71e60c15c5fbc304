"""`atelier vary`: makes variations of an image that was generated."""

from __future__ import annotations

from dataclasses import replace

import click

from atelier_client.cli.completion_values import complete_id
from atelier_client.cli.connection import connect
from atelier_client.cli.generation_ids import resolve_id
from atelier_client.cli.options import server_option
from atelier_client.cli.output_checks import choose_format
from atelier_client.cli.task_running import RunArguments, run_options, run_task
from atelier_client.errors import InvalidRequestError
from atelier_client.outputs import Image
from atelier_client.results import Generation
from atelier_client.tasks import RANDOM_SEED, ImageTask, RequestKeywords


@click.command("vary")
@click.argument("generation_id", metavar="ID", shell_complete=complete_id)
@click.option(
    "--strength",
    type=click.FloatRange(min=0, max=1),
    default=0.5,
    show_default=True,
    help="0 keeps the image, 1 ignores it.",
)
@click.option("--prompt", help="[default: the prompt that it had]")
@click.option("--seed", type=click.IntRange(min=RANDOM_SEED), help="[default: random, as for -1]")
@click.option("--num-images", type=click.IntRange(min=1), help="Number of variations.")
@click.option(
    "--index",
    default=1,
    type=click.IntRange(min=1),
    help="Which of its images.  [default: the first]",
)
@run_options
@server_option
def vary_command(
    *,
    generation_id: str,
    strength: float,
    prompt: str | None,
    seed: int | None,
    num_images: int | None,
    index: int,
    run: RunArguments,
    server: str,
) -> int:
    """Make variations of an image of the generation ID: its task again, starting from the image."""
    target = run.parse_target()
    with connect(server) as client:
        before = client.get(resolve_id(client, generation_id))
        task, image = _find_image(before, index)
        task = replace(
            task,
            prompt=task.prompt if prompt is None else prompt,
            init_image=image.artifact,
            mask=None,
            padding_mask_crop=None,
            outpaint=None,
            controls=(),
            width=image.width,
            height=image.height,
            aspect_ratio="",
            strength=strength,
            seed=seed,
            num_images=num_images,
            upscale=None,
        )
        return run_task(
            client, choose_format(task, target), RequestKeywords(engine=before.engine), target, run
        )


def _find_image(before: Generation, index: int) -> tuple[ImageTask, Image]:
    """The task, and the image with that number.

    Raises:
        InvalidRequestError: it has none.
    """
    if not isinstance(before.task, ImageTask) or len(before.images) < index:
        raise InvalidRequestError(
            f"generation {before.id} is {before.state} and has {len(before.images)} images:"
            f" there is no image {index} to vary"
        )
    return before.task, before.images[index - 1]
