"""What a user's program does with the client; type checkers read it, nothing runs it."""

from pathlib import Path

from atelier.v1 import task_pb2
from atelier_client import (
    AsyncClient,
    AudioTask,
    Client,
    Control,
    ControlType,
    Generation,
    ImageTask,
    Progress,
    show_progress,
)
from atelier_client.errors import AtelierError, BatchError, InvalidRequestError


def generate(client: Client) -> str:
    """One image, a batch, audio, and every kind of input image."""
    made: Generation = client.generate("a lamp", width=64, seed=7, init_image="a.png")
    batch: tuple[Generation, ...] = client.generate(["a", "b"], engine="sketch")
    client.generate([ImageTask(prompt="a"), "b", AudioTask(prompt="c")])
    control = Control(type=ControlType.DEPTH, image=made.images[0])
    client.generate(ImageTask(prompt="a", controls=(control,), mask=Path("mask.png")))
    with Path("start.png").open("rb") as file:
        client.generate("a", init_image=file, mask=bytearray(b""))
    shown: Generation = show_progress(client.stream("a lamp"))
    return f"{made.images[0].width} {len(batch)} {shown.seconds}"


async def generate_async(client: AsyncClient) -> list[Progress]:
    """The same with asyncio."""
    made: Generation = await client.generate("a lamp")
    batch: tuple[Generation, ...] = await client.generate((made.task, "b"))
    shown: Generation = await show_progress(client.stream("a lamp"))
    assert shown.id != batch[0].id
    return [event async for event in client.follow(made.id)]


def explain(error: AtelierError) -> str:
    """The fields of errors."""
    if isinstance(error, InvalidRequestError):
        return ", ".join(violation.field for violation in error.violations)
    if isinstance(error, BatchError):
        return str([result for result in error.results if isinstance(result, Generation)])
    return error.reason


def read_width(task: task_pb2.ImageTask) -> int:
    """The generated stubs are typed, too."""
    return task.width
