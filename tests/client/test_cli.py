"""The command line: its output on stdout and stderr, and its exit codes."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from PIL import Image

from atelier.v1 import generation_pb2, task_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier_client.cli.unknown_fields import LATER_FIELDS
from tests.client.atelier_command import atelier
from tests.client.fake_server import IMAGE_FILE, FakeServer, info, status

Served = tuple[FakeServer, str]


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 2),
        (grpc.StatusCode.FAILED_PRECONDITION, 2),
        (grpc.StatusCode.ALREADY_EXISTS, 2),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 3),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 3),
        (grpc.StatusCode.NOT_FOUND, 4),
        (grpc.StatusCode.CANCELLED, 5),
        (grpc.StatusCode.INTERNAL, 1),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_an_error_is_one_line_and_a_code(
    code: grpc.StatusCode, exit_code: int, fake_server: Served
) -> None:
    """What the server said and its reason on stderr, nothing on stdout."""
    service, address = fake_server
    service.refusals = [status(code, "what to\nchange", info("SOME_REASON"))] * 5
    ended = await atelier("show", "g1", "--json", "--server", address)
    assert (ended.code, ended.out) == (exit_code, "")
    assert ended.err == "error: what to change (SOME_REASON)\n"


async def test_violations_are_printed(fake_server: Served) -> None:
    """The line names the invalid fields."""
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="image.width", description="at least 16")
    service, address = fake_server
    service.refusals = [
        status(grpc.StatusCode.INVALID_ARGUMENT, "bad request", info("INVALID"), bad)
    ]
    ended = await atelier("generate", "x", "--server", address)
    assert ended.err == "error: bad request; image.width: at least 16 (INVALID)\n"


async def test_an_unreachable_server_ends_with_3() -> None:
    """With one line on stderr that says how to start one; no call is tried."""
    refused, unknown = await asyncio.gather(
        atelier("health", ATELIER_SERVER="127.0.0.1:1"),
        atelier("health", "--server", "nowhere.invalid:1"),
    )
    assert (refused.code, unknown.code) == (3, 3)
    assert refused.err.startswith("error: cannot reach the server at 127.0.0.1:1: ")
    assert "`atelier serve` starts one" in refused.err
    assert (refused.err.count("\n"), unknown.err.count("\n")) == (1, 1)


async def test_the_bare_command_is_its_help() -> None:
    """Which is what a new user wants, and no error."""
    bare, asked = await asyncio.gather(atelier(), atelier("--help"))
    assert (bare.code, bare.err) == (0, "")
    assert bare.out == asked.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["generate"], "Missing argument"),
        (["generate", "x", "--size", "big"], "not a size such as 512x768"),
        (["generate", "x", "--option", "mood"], "not KEY=VALUE"),
        (["generate", "x", "--control", "smell=a.png"], "canny, depth, pose, segmentation"),
        (["generate", "x", "--audio", "--size", "64"], "--size is an option for images"),
        (["generate", "x", "--loop"], "add --audio"),
        (["generate", "x", "--duration", "1", "--lora", "ink"], "--lora is an option for images"),
        (["generate", "x", "--preprocess"], "--preprocess needs --control"),
        (["generate", "x", "--audio", "--format", "png"], "must be one of wav, flac, ogg"),
        (["generate", "x", "--init-image", "nowhere.png"], "nowhere.png"),
        (["paint"], "No such command"),
        (["genrate", "x"], "Did you mean 'generate'?"),
        (["health", "--server", "http://here:5/path"], "must be http://HOST:PORT"),
    ],
)
async def test_wrong_usage_ends_with_2(arguments: list[str], told: str) -> None:
    """With one line that says what to change."""
    ended = await atelier(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    assert ended.err.count("\n") == 1


async def test_an_unexpected_error_is_one_line_too(fake_server: Served, tmp_path: Path) -> None:
    """No traceback without --debug."""
    service, address = fake_server
    service.finished = generation_pb2.Generation(id="g1")
    service.finished.create_time.seconds = 2**45  # in the year 1,116,918
    told = await atelier("show", "g1", "--server", address, cwd=tmp_path)
    shown = await atelier("--debug", "show", "g1", "--server", address)
    assert (told.code, shown.code) == (1, 1)
    assert told.err.count("\n") == 1
    assert "--debug" in told.err
    assert "Traceback" in shown.err


async def test_the_page_of_an_engine_shows_trigger_words(fake_server: Served) -> None:
    """Beside the LoRA whose file has them."""
    service, address = fake_server
    image = service.engine.image
    image.loras.extend(["ink", "wool"])
    image.lora_trigger_words.add(lora="wool", words=["w00l style", "knitted"])
    page = await atelier("engines", "stand-in", "--server", address)
    assert re.search(r"^LoRAs +ink, wool", page.out, re.MULTILINE)
    assert re.search(r"^  wool +trigger words: w00l style, knitted *$", page.out, re.MULTILINE)


async def test_an_unhealthy_service_ends_with_1(fake_server: Served) -> None:
    """So that probes and scripts can use it."""
    _, address = fake_server
    ended = await atelier("health", "--server", address)
    assert ended.code == 1
    assert ended.out.startswith("not serving")


async def test_a_failed_generation_ends_with_1(fake_server: Served, tmp_path: Path) -> None:
    """It leaves no file."""
    service, address = fake_server
    service.finished = generation_pb2.Generation(
        id="g1",
        state=generation_pb2.STATE_FAILED,
        failure=generation_pb2.Failure(reason="ENGINE_FAILED", code=13, message="it broke"),
    )
    ended = await atelier("generate", "x", "--server", address, cwd=tmp_path)
    assert ended.code == 1
    assert ended.err.endswith("error: it broke (ENGINE_FAILED)\n")
    assert names_in(tmp_path) == []


async def test_fields_that_an_older_server_does_not_know_are_told(
    fake_server: Served, tmp_path: Path
) -> None:
    """It drops them without a word, and its receipt names others; with --strict nothing is started."""
    service, address = fake_server
    service.finished = generation_pb2.Generation()
    service.finished.CopyFrom(FakeServer().finished)
    service.finished.receipt.parameters.add(name="clip_skip")
    given = ("generate", "x", "--ratio", "16:9", "--clip-skip", "1", "--server", address)
    told = await atelier(*given, cwd=tmp_path)
    assert told.code == 0
    assert "aspect_ratio ignored: this server is older than the client" in told.err
    assert "clip_skip ignored" not in told.err
    service.requests.clear()
    refused = await atelier(*given, "--strict", cwd=tmp_path)
    assert refused.code == 2
    assert "this server does not know aspect_ratio, and would ignore it" in refused.err
    assert [type(request).__name__ for request in service.requests] == ["PlanGenerationRequest"]


def test_every_later_field_of_the_contract_is_looked_for() -> None:
    """Those after `upscale`, the last field of image tasks in the first contract."""
    fields = task_pb2.ImageTask.DESCRIPTOR.fields_by_name
    last = fields["upscale"].number
    assert {name for name, one in fields.items() if one.number > last} == LATER_FIELDS


async def test_several_outputs_are_numbered(fake_server: Served, tmp_path: Path) -> None:
    """`-o a.png` becomes a-1.png and a-2.png."""
    service, address = fake_server
    service.finished = generation_pb2.Generation()
    service.finished.CopyFrom(FakeServer().finished)
    service.finished.outputs.append(service.finished.outputs[0])
    await atelier("generate", "x", "-o", "a.png", "--server", address, cwd=tmp_path)
    assert names_in(tmp_path) == ["a-1.png", "a-2.png"]


async def test_the_prompt_names_the_file_and_nothing_is_overwritten(
    fake_server: Served, tmp_path: Path
) -> None:
    """Without -o, twice the same prompt makes two files."""
    _, address = fake_server
    for _ in range(2):
        await atelier("generate", "a lamp", "--server", address, cwd=tmp_path)
    assert names_in(tmp_path) == ["a-lamp-2.png", "a-lamp.png"]
    assert (tmp_path / "a-lamp.png").read_bytes() == IMAGE_FILE


async def test_an_unwritable_file_is_reported_with_a_remedy(
    fake_server: Served, tmp_path: Path
) -> None:
    """The generation is kept: the line names the command that saves it."""
    _, address = fake_server
    (tmp_path / "stand-in").touch()
    ended = await atelier(
        "generate", "x", "-o", "{engine}/a.png", "--server", address, cwd=tmp_path
    )
    assert ended.code == 2
    assert "atelier show g1 --output" in ended.err


async def test_a_foreign_command_is_part_of_the_group(tmp_path: Path) -> None:
    """An entry point in `atelier.commands` adds a command; the others work if it cannot be imported."""
    plant(tmp_path, "wave = fine:wave\nbroken = nowhere:it\nodd = fine:number")
    (tmp_path / "fine.py").write_text(
        "import click\nnumber = 5\n"
        "@click.command()\n@click.argument('name')\n"
        "def wave(name):\n    '''Wave at NAME.'''\n    click.echo(f'hello {name}')\n"
    )
    path = str(tmp_path)
    helped = await atelier("--help", PYTHONPATH=path)
    waved = await atelier("wave", "you", PYTHONPATH=path)
    broken = await atelier("broken", "--anything", PYTHONPATH=path)
    odd = await atelier("odd", PYTHONPATH=path)
    assert (helped.code, waved.code, waved.out) == (0, 0, "hello you\n")
    assert "Wave at NAME." in helped.out
    assert "(cannot be loaded)" in helped.out
    assert (broken.code, odd.code) == (1, 1)
    assert broken.err.startswith("error: broken cannot be loaded from nowhere:it")
    assert broken.err.count("\n") == 1


def names_in(folder: Path) -> list[str]:
    """The files in a folder."""
    return sorted(path.name for path in folder.iterdir())


def plant(folder: Path, points: str) -> None:
    """Put an installed distribution with entry points into a folder."""
    info_folder = folder / "foreign-1.0.dist-info"
    info_folder.mkdir()
    (info_folder / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (info_folder / "entry_points.txt").write_text(f"[atelier.commands]\n{points}\n")


async def test_help_loads_nothing_heavy() -> None:
    """The library and every command are listed without gRPC, protobuf or asyncio."""
    program = (
        "import sys\nfrom atelier_client.cli.app import atelier\n"
        "context = atelier.make_context('atelier', [], resilient_parsing=True)\n"
        "from atelier_client.cli.group import _OWN\n"
        "[atelier.get_command(context, name) for name in _OWN]\n"
        "print(sorted({'grpc', 'google.protobuf', 'asyncio', 'torch'} & set(sys.modules)))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == "[]"


@pytest.mark.parametrize("preprocess", [False, True])
async def test_control_images_are_maps_unless_these_are_to_be_computed(
    fake_server: Served, tmp_path: Path, *, preprocess: bool
) -> None:
    """In order, each with its type."""
    service, address = fake_server
    file = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(file)
    options = ["--control", f"canny={file}", "--control", f"depth={file}", "--detach"]
    options += ["--preprocess"] if preprocess else []
    await atelier("generate", "x", *options, "--server", address)
    (request,) = (ask for ask in service.requests if isinstance(ask, pb.GenerateRequest))
    assert [(control.type, control.preprocess) for control in request.image.controls] == [
        (task_pb2.CONTROL_TYPE_CANNY, preprocess),
        (task_pb2.CONTROL_TYPE_DEPTH, preprocess),
    ]
