"""Both clients and the command line against the real server and its sketch engine."""

from __future__ import annotations

import asyncio
import io
import wave
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atelier_client import (
    AsyncClient,
    AudioTask,
    CancelOutcome,
    EngineState,
    ImageFormat,
    ImageTask,
    ServingStatus,
    State,
    errors,
)
from tests.client.atelier_command import atelier
from tests.client.conftest import MakeCaller
from tests.conftest import RunningServer, StartServer


async def test_a_prompt_becomes_an_image(
    calling: MakeCaller, server: RunningServer, tmp_path: Path
) -> None:
    """Of the size and seed asked for, in a file that opens."""
    async with calling(server.address) as caller:
        made = await caller.call("generate", "a red heart", width=96, height=64, seed=7)
    output = made.images[0]
    assert (output.width, output.height, output.seed) == (96, 64, 7)
    with Image.open(output.save(tmp_path / "heart.png")) as image:
        assert image.size == (96, 64)
    assert (made.state, made.engine, made.prompt) == (State.SUCCEEDED, "sketch", "a red heart")
    assert made.receipt is not None
    assert any(parameter.name == "seed" for parameter in made.receipt.parameters)


async def test_the_task_of_a_generation_can_be_run_again(
    calling: MakeCaller, server: RunningServer, tmp_path: Path
) -> None:
    """With every value as it was requested, and the input image by the id of its artifact."""
    start = tmp_path / "start.png"
    Image.new("RGB", (64, 64), "red").save(start)
    task = ImageTask(
        prompt="a red heart",
        width=96,
        height=64,
        steps=2,
        guidance=7.2,
        seed=7,
        init_image=start,
        strength=0.3,
        format=ImageFormat.WEBP,
    )
    async with calling(server.address) as caller:
        first = await caller.call("generate", task)
        again = await caller.call("generate", first.task)
    assert replace(first.task, init_image=None) == replace(task, init_image=None)
    assert again.task == first.task
    assert again.images[0].data == first.images[0].data
    assert again.id != first.id


async def test_a_large_image_is_fetched_whole(calling: MakeCaller, server: RunningServer) -> None:
    """More than comes inline."""
    async with calling(server.address) as caller:
        made = await caller.call("generate", "noise", width=1024, height=1024, num_images=2)
    assert [output.artifact.size for output in made.outputs] == [
        len(output.data) for output in made.outputs
    ]
    assert made.outputs[0].data != made.outputs[1].data


async def test_a_prompt_becomes_audio(calling: MakeCaller, server: RunningServer) -> None:
    """Of the length asked for."""
    task = AudioTask(prompt="a tone", duration_seconds=0.5)
    async with calling(server.address) as caller:
        made = await caller.call("generate", task)
    with wave.open(io.BytesIO(made.audio[0].data)) as file:
        assert file.getnframes() == pytest.approx(file.getframerate() * 0.5, rel=0.01)


async def test_events_count_from_one_without_gaps(
    calling: MakeCaller, server: RunningServer
) -> None:
    """Started or attached to, from the beginning or from the middle."""
    async with calling(server.address) as caller:
        async with aclosing(caller.events("stream", "a lamp", steps=4)) as stream:
            started = [event async for event in stream]
        again = caller.events("follow", started[0].generation_id, after_sequence=2)
        async with aclosing(again) as stream:
            attached = [event async for event in stream]
    numbers = [event.sequence for event in started]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [event.sequence for event in attached] == numbers[2:]
    assert started[-1].generation is not None
    assert started[-1].generation.images[0].data.startswith(b"\x89PNG")


async def test_repetitions_are_not_counted(calling: MakeCaller, start_server: StartServer) -> None:
    """Though the server repeats its last event all the time between two steps."""
    silent = start_server(limits={"max_silence_seconds": 0.1})
    async with calling(silent.address) as caller:
        options = {"delay_seconds": 2.0}
        accepted = await caller.call("submit", "a heart", steps=2, options=options)
        events = [event async for event in caller.events("follow", accepted.id)]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.step for event in events if event.step] == [1, 2, 2]


async def test_an_image_is_uploaded_and_downloaded_unchanged(
    calling: MakeCaller, server: RunningServer
) -> None:
    """And can be started from."""
    buffer = io.BytesIO()
    Image.effect_noise((800, 800), 90).save(buffer, "PNG")
    async with calling(server.address) as caller:
        stored = await caller.call("upload", buffer.getvalue())
        assert await caller.call("download", stored) == buffer.getvalue()
        assert await caller.call("download", stored.id) == buffer.getvalue()
        task = ImageTask(prompt="in oil", init_image=stored, strength=0.5, width=64, height=64)
        made = await caller.call("generate", task)
    assert made.state is State.SUCCEEDED


async def test_what_was_made_is_listed_and_shown(
    calling: MakeCaller, server: RunningServer
) -> None:
    """Over several pages, newest first."""
    async with calling(server.address) as caller:
        ids = [(await caller.call("submit", f"lamp {n}")).id for n in range(3)]
        async with aclosing(caller.events("list", page_size=2)) as pages:
            listed: list[Any] = [generation async for generation in pages]
        shown = await caller.call("get", ids[0])
    assert [generation.id for generation in listed[:3]] == ids[::-1]
    assert shown.prompt == "lamp 0"


async def test_a_plan_says_what_would_be_done(calling: MakeCaller, server: RunningServer) -> None:
    """Without doing it."""
    async with calling(server.address) as caller:
        plan = await caller.call("plan", "a lamp", width=64, height=64)
    assert (plan.engine, plan.accepted) == ("sketch", True)
    values = {parameter.name: parameter.value for parameter in plan.parameters}
    assert (values["width"], values["height"]) == (64, 64)


async def test_the_service_describes_itself(calling: MakeCaller, server: RunningServer) -> None:
    """Health and capabilities agree."""
    async with calling(server.address) as caller:
        health = await caller.call("health")
        capabilities = await caller.call("capabilities")
    assert health.status is ServingStatus.SERVING
    assert [engine.engine for engine in health.engines] == ["sketch"]
    (engine,) = capabilities.engines
    assert (engine.name, engine.type, engine.state) == ("sketch", "sketch", EngineState.READY)
    assert engine.image is not None
    assert engine.image.width is not None


async def test_an_ended_generation_is_too_late_to_cancel(
    calling: MakeCaller, server: RunningServer
) -> None:
    """And the answer says so."""
    async with calling(server.address) as caller:
        made = await caller.call("generate", "a lamp")
        cancellation = await caller.call("cancel", made.id)
    assert cancellation.outcome is CancelOutcome.TOO_LATE
    assert cancellation.generation.state is State.SUCCEEDED


async def test_a_bad_request_names_its_field(calling: MakeCaller, server: RunningServer) -> None:
    """The server's violations reach the caller."""
    async with calling(server.address) as caller:
        with pytest.raises(errors.InvalidRequestError) as raised:
            await caller.call("generate", "a lamp", steps=5000)
        with pytest.raises(errors.NotFoundError):
            await caller.call("generate", "a lamp", engine="nobody")
        with pytest.raises(errors.NotFoundError):
            await caller.call("get", "nothing")
    assert any("steps" in violation.field for violation in raised.value.violations)


async def test_a_request_id_is_one_generation(calling: MakeCaller, server: RunningServer) -> None:
    """The same twice; with another task it is a conflict."""
    async with calling(server.address) as caller:
        first = await caller.call("generate", "a lamp", seed=1)
        again = await caller.call("generate", "a lamp", seed=1, request_id=first.request_id)
        assert again.id == first.id
        with pytest.raises(errors.ConflictError):
            await caller.call("generate", "a tree", request_id=first.request_id)


async def test_many_callers_share_a_client(server: RunningServer) -> None:
    """One connection carries them all."""
    async with AsyncClient(server.address) as client:
        made = await asyncio.gather(*(client.generate("a lamp", seed=n) for n in range(20)))
    assert [one.images[0].seed for one in made] == list(range(20))


def test_a_client_outlives_its_event_loop(server: RunningServer) -> None:
    """It opens its connection in the loop of its first call; for another loop that runs it is refused."""
    client = AsyncClient(server.address)

    async def ask() -> ServingStatus:
        return (await client.health()).status

    async def ask_from_two_loops() -> ServingStatus:
        await client.health()
        return await asyncio.to_thread(asyncio.run, ask())

    assert asyncio.run(ask()) is ServingStatus.SERVING
    assert asyncio.run(ask()) is ServingStatus.SERVING
    with pytest.raises(errors.InvalidRequestError, match="make an AsyncClient for each"):
        asyncio.run(ask_from_two_loops())
    asyncio.run(client.close())
    with pytest.raises(errors.ClientClosedError):
        asyncio.run(ask())


async def test_the_command_generates_an_image(server: RunningServer, tmp_path: Path) -> None:
    """Says on stdout where it is, and how it came along on stderr."""
    ended = await atelier(
        *("generate", "a red heart", "--size", "96x64", "--seed", "7", "-o", "heart.png"),
        *("--server", server.address),
        cwd=tmp_path,
    )
    assert (ended.code, ended.out[:36]) == (0, "heart.png  (seed 7, engine sketch by")
    assert "100%  succeeded" in ended.err
    with Image.open(tmp_path / "heart.png") as image:
        assert image.size == (96, 64)


@pytest.mark.parametrize(
    ("name", "form"), [("a.jpg", "JPEG"), ("a.webp", "WEBP"), ("a.avif", "AVIF")]
)
async def test_the_file_name_tells_the_format(
    name: str, form: str, server: RunningServer, tmp_path: Path
) -> None:
    """`-o a.jpg` is a JPEG."""
    await atelier("generate", "x", "-o", name, "--server", server.address, cwd=tmp_path)
    with Image.open(tmp_path / name) as image:
        assert image.format == form


async def test_the_command_generates_audio(server: RunningServer, tmp_path: Path) -> None:
    """`--duration` says that it is one."""
    ended = await atelier(
        "generate", "a tone", "--duration", "0.5", ATELIER_SERVER=server.address, cwd=tmp_path
    )
    assert (ended.code, ended.out[:10]) == (0, "a-tone.wav")


async def test_json_is_all_there_is_on_stdout(server: RunningServer, tmp_path: Path) -> None:
    """Every command: one document, or one line for each event and one for the end."""
    where = ("--json", "--server", server.address)
    made = await atelier("generate", "a lamp", *where, "-o", "a.png", cwd=tmp_path)
    lines: list[Any] = made.documents
    assert [line["event"]["sequence"] for line in lines[:-1]] == list(range(1, len(lines)))
    assert lines[-1]["files"] == ["a.png"]
    generation_id = lines[-1]["generation"]["id"]
    for arguments in (
        ["show", generation_id],
        ["cancel", generation_id],
        ["list"],
        ["engines"],
        ["health"],
        ["plan", "a lamp"],
        ["generate", "a lamp", "--detach"],
    ):
        ended = await atelier(*arguments, *where)
        assert (ended.code, ended.err, len(ended.documents)) == (0, "", 1)
    watched = await atelier("watch", generation_id, *where)
    assert watched.out.splitlines()[:-1] == made.out.splitlines()[:-1]


async def test_detach_then_watch_then_show(server: RunningServer, tmp_path: Path) -> None:
    """A generation outlives the command that started it."""
    started = await atelier("generate", "a lamp", "--detach", "--server", server.address)
    generation_id = started.out.strip()
    watched = await atelier("watch", generation_id, "--server", server.address)
    shown = await atelier(
        "show", generation_id, "-o", "a.png", "--server", server.address, cwd=tmp_path
    )
    assert watched.out == f"{generation_id}: succeeded\n"
    assert "a lamp" in shown.out
    assert (tmp_path / "a.png").exists()


async def test_tables_for_people(server: RunningServer) -> None:
    """Engines, generations, health, plan: readable, with what matters in them."""
    at = ("--server", server.address)
    engines = await atelier("engines", *at, COLUMNS="160")
    listed = await atelier("list", "--limit", "1", *at)
    health = await atelier("health", *at)
    plan = await atelier("plan", "x", "--steps", "3", *at)
    assert "sketch" in engines.out
    assert "img2img" in engines.out
    assert "✓" in engines.out
    assert listed.out.startswith("id ")
    assert health.out.startswith("serving")
    assert "steps" in plan.out
    assert {engines.code, listed.code, health.code, plan.code} == {0}


async def test_the_command_line_says_which_engine_was_selected_and_why(
    server: RunningServer, tmp_path: Path
) -> None:
    """In the plan, beside the file, and in the receipt."""
    where = ("--server", server.address)
    task = ("a red heart", "--size", "64")
    planned = await atelier("plan", *task, *where)
    assert "engine     sketch (the default engine)" in planned.out
    made = await atelier("generate", *task, "-o", str(tmp_path / "a.png"), *where)
    assert "engine sketch by default" in made.out
    accepted = await atelier("generate", *task, "--engine", "sketch", "--detach", *where)
    shown = await atelier("show", accepted.out.strip(), *where)
    assert "sketch (named in the request)" in shown.out
