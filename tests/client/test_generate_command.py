"""`atelier generate`: what it tells, where the prompt comes from, where outputs go."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from atelier.v1 import generation_service_pb2 as pb
from atelier_client.cli.task_values import parse_lora
from atelier_client.enums import LoraRole
from atelier_client.tasks import Lora
from tests.client.atelier_command import Finished, atelier
from tests.client.fake_server import FakeServer
from tests.conftest import RunningServer, launch

DEAR = {"type": "sketch", "price_per_image": 1, "daily_budget": 0, "fallbacks": ["sketch"]}
SMALL = ("--size", "32", "--steps", "1")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose second engine has no money left."""
    engines = {"sketch": {"type": "sketch"}, "dear": DEAR}
    running = launch(tmp_path_factory.mktemp("served"), engines=engines, wait=["sketch"])
    yield running
    running.kill()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to work in, as commands see it."""
    return tmp_path


async def generate(served: RunningServer, folder: Path, *arguments: str, **more: bytes) -> Finished:
    """Run `atelier generate` in the folder."""
    at = ("--server", served.address)
    return await atelier("generate", *arguments, *at, cwd=folder, **more)  # type: ignore[arg-type]  # stdin by name


def files_in(folder: Path) -> list[str]:
    """The files in a folder and in those below."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_what_was_decided_is_told_once(served: RunningServer, folder: Path) -> None:
    """The id, the engine that nobody named, and each value that was clamped or ignored, before the progress."""
    task = ("a bell", *SMALL, "--guidance", "99", "--strength", "0.5")
    made, named, quiet = await asyncio.gather(
        generate(served, folder, *task),
        generate(served, folder, *task, "--engine", "sketch", "--quiet"),
        generate(served, folder, *task, "--quiet"),
    )
    told = made.err.splitlines()
    assert re.fullmatch(r"id [0-9a-z]{26}", told[0])
    assert told[1:4] == [
        "engine sketch: the default engine",
        "guidance 99 clamped to 20: this engine supports 0 to 20",
        "strength 0.5 ignored: it has no effect without init_image",
    ]
    assert not any("engine" in line for line in told[4:])
    assert named.err.splitlines() == told[2:4]
    assert quiet.err.splitlines() == told[2:4]


async def test_a_fallback_is_told_with_its_reason(served: RunningServer, folder: Path) -> None:
    """Also when the engine was named."""
    made = await generate(served, folder, "x", *SMALL, "--engine", "dear")
    assert "engine sketch: fallback after dear: " in made.err
    assert "budget" in made.err


async def test_the_prompt_comes_from_a_file_or_from_standard_input(
    served: RunningServer, folder: Path
) -> None:
    """Without the white space around it; a file name follows from it, and two prompts are one too many."""
    (folder / "prompt.txt").write_text("\ufeffa green\nleaf\n", encoding="utf-8")
    (folder / "empty.txt").touch()
    made = await asyncio.gather(
        generate(served, folder, "--prompt-file", "prompt.txt", *SMALL),
        generate(served, folder, "-", *SMALL, stdin=b"a stone\n"),
        generate(served, folder, "--prompt-file", "-", *SMALL, stdin=b"a twig\n"),
        generate(served, folder, "x", "--prompt-file", "prompt.txt"),
        generate(served, folder, "--prompt-file", "empty.txt"),
    )
    assert [one.code for one in made] == [0, 0, 0, 2, 2]
    assert files_in(folder) == [
        *("a-green-leaf.png", "a-stone.png", "a-twig.png", "empty.txt", "prompt.txt")
    ]


async def test_an_existing_file_is_overwritten_only_by_force(
    served: RunningServer, folder: Path
) -> None:
    """It is refused before anything is generated; of several files none may exist."""
    for name in ("a.png", "b-2.png", "c.png"):
        (folder / name).write_bytes(b"old")
    one, two, forced = await asyncio.gather(
        generate(served, folder, "x", *SMALL, "-o", "a.png"),
        generate(served, folder, "x", *SMALL, "--num-images", "2", "-o", "b.png"),
        generate(served, folder, "x", *SMALL, "-o", "c.png", "--force"),
    )
    assert (one.code, two.code, forced.code) == (2, 2, 0)
    assert one.err.startswith("error: a.png exists: --force overwrites it")
    assert two.err.startswith("error: b-2.png exists: --force overwrites it")
    assert (folder / "a.png").read_bytes() == b"old"
    assert (folder / "c.png").read_bytes().startswith(b"\x89PNG")
    assert files_in(folder) == ["a.png", "b-2.png", "c.png"]


async def test_what_cannot_be_saved_is_refused_before_it_is_made(
    served: RunningServer, folder: Path
) -> None:
    """As far as the name is known then: without its suffix, by its prompt, style and engine, or by its folder."""
    for name in ("a.png", "x-none.webp", "sketch-2.png", "file"):
        (folder / name).write_bytes(b"old")
    refused = [
        (("-o", "a"), "a.png exists"),
        (("-o", "{prompt}-{style_id}.{ext}", "--format", "webp"), "x-none.webp exists"),
        (("-o", "{engine}-{index}", "--engine", "sketch", "--num-images", "3"), "-2.png exists"),
        (("-o", "file/new/{seed}.png"), "cannot write into file: it is a file"),
        (("-o", "a" * 300 + ".png"), "File name too long"),
        (("-o", ""), "--output is empty"),
        (("-o", "-"), "outputs go to files, not to standard output"),
        (("-o", "{prompt}", "--matrix", "steps=1,2"), "must be a folder without fields"),
        (("-o", "m.png", "--matrix", "steps=1,2"), "must be a folder"),
    ]
    made = await asyncio.gather(
        *(generate(served, folder, "x", *SMALL, *arguments) for arguments, _ in refused)
    )
    assert [one.code for one in made] == [2] * len(refused)
    assert [
        one.err for one, (_, told) in zip(made, refused, strict=True) if told not in one.err
    ] == []
    assert [one.err for one in made if "id " in one.err.split("error:")[0]] == []
    assert files_in(folder) == ["a.png", "file", "sketch-2.png", "x-none.webp"]


async def test_a_matrix_goes_to_a_folder_with_a_dot(served: RunningServer, folder: Path) -> None:
    """Which is no suffix of a format."""
    axes = ("--matrix", "steps=1,2", "-o", "of.2026/")
    made = await generate(served, folder, "x", "--size", "32", *axes)
    assert (made.code, made.out) == (0, "2 made: of.2026/contact-sheet.png\n")


async def test_a_file_that_appears_meanwhile_is_kept(served: RunningServer, folder: Path) -> None:
    """The error names the command that saves the outputs elsewhere, which refuses the file, too."""
    (folder / "x7.png").write_bytes(b"old")
    made = await generate(served, folder, "x", *SMALL, "--seed", "7", "-o", "x{seed}.png")
    remedy = re.search(r"`atelier show (\S+) --output FILE`", made.err)
    assert made.code == 2
    assert remedy is not None
    at = ("--server", served.address)
    shown = await atelier("show", remedy[1], "-o", "x7.png", *at, cwd=folder)
    assert (shown.code, files_in(folder)) == (2, ["x7.png"])
    assert (folder / "x7.png").read_bytes() == b"old"


async def test_outputs_go_to_folders_and_under_templates(
    served: RunningServer, folder: Path
) -> None:
    """A folder gets the default name, a template its fields, a name without suffix that of the format."""
    (folder / "there").mkdir()
    images = (*SMALL, "--seed", "7", "--num-images", "2")
    made = await asyncio.gather(
        generate(served, folder, "an egg", *SMALL, "-o", "there"),
        generate(served, folder, "an egg", *SMALL, "-o", "new/"),
        generate(served, folder, "an egg", *images, "-o", "{engine}/{seed}-{index}{{}}.{ext}"),
        generate(served, folder, "an egg", *images, "-o", "{engine}"),
        generate(
            *(served, folder, "an egg", *SMALL, "--request-id", "..:b"),
            *("-o", "runs/{request_id}/{style_id}.{ext}"),
        ),
        generate(served, folder, "an egg", *SMALL, "-o", "plain", "--format", "webp"),
    )
    assert [one.code for one in made] == [0] * 6
    assert files_in(folder) == [
        *("new/an-egg.png", "plain.webp", "runs/_._b/none.png", "sketch-1.png", "sketch-2.png"),
        *("sketch/7-1{}.png", "sketch/8-2{}.png", "there/an-egg.png"),
    ]


async def test_the_suffix_is_the_format(served: RunningServer, folder: Path) -> None:
    """Of images and of audio; what contradicts it is refused, and so is an unknown one."""
    refused = [
        (("-o", "a.gif"), "no format has the suffix .gif; use .png, .webp"),
        (("-o", "a.png", "--format", "webp"), "--format webp contradicts the suffix"),
        (("-o", "a.png", "--audio"), "the suffix of --output must be one of wav, flac, ogg"),
        (("-o", "{taste}.png"), "no field {taste}; there are {prompt}, {id}"),
        (("-o", "{.png"), "write {{ for a brace"),
        (("-o", "a.png", "--detach"), "--detach saves nothing"),
    ]
    made = await asyncio.gather(
        generate(served, folder, "x", "-o", "a.ogg"),
        *(generate(served, folder, "x", *arguments) for arguments, _ in refused),
    )
    assert [one.code for one in made] == [0] + [2] * len(refused)
    assert [
        told for one, (_, told) in zip(made[1:], refused, strict=True) if told not in one.err
    ] == []
    assert (folder / "a.ogg").read_bytes().startswith(b"OggS")


async def test_a_ratio_becomes_a_size(served: RunningServer, folder: Path) -> None:
    """Of the engine's usual number of pixels, on its grid; audio has none."""
    made, wrong, both = await asyncio.gather(
        generate(served, folder, "x", "--steps", "1", "--ratio", "16:9", "-o", "a.png"),
        generate(served, folder, "x", "--ratio", "wide"),
        generate(served, folder, "x", "--ratio", "1:1", "--size", "64"),
    )
    assert (made.code, wrong.code, both.code) == (0, 2, 2)
    with Image.open(folder / "a.png") as image:
        assert image.width / image.height == pytest.approx(16 / 9, rel=0.01)
        assert image.width * image.height == pytest.approx(512 * 512, rel=0.02)


async def test_a_canvas_is_extended_where_the_engine_inpaints(
    served: RunningServer, folder: Path
) -> None:
    """This one does not; sides are checked before anything is asked."""
    given = ("--init-image", "a.png", "--outpaint")
    Image.new("RGB", (32, 32)).save(folder / "a.png")
    refused, unknown, twice = await asyncio.gather(
        generate(served, folder, "x", *given, "left=16,top=8"),
        generate(served, folder, "x", *given, "north=16"),
        generate(served, folder, "x", *given, "left=16,left=8"),
    )
    assert "inpainting" in refused.err
    assert "left, top, right, bottom" in unknown.err
    assert (unknown.code, twice.code) == (2, 2)


@pytest.mark.parametrize(
    ("text", "lora"),
    [
        ("ink", Lora(name="ink")),
        ("ink=0.5", Lora(name="ink", weight=0.5)),
        ("ink:style", Lora(name="ink", role=LoraRole.STYLE)),
        ("a:b=-1:cinematic", Lora(name="a:b", weight=-1.0, role=LoraRole.CINEMATIC)),
        ("a:b", Lora(name="a:b")),
    ],
)
def test_a_lora_has_a_weight_and_a_role(text: str, lora: Lora) -> None:
    """Both may be missing; a colon may be part of the name."""
    assert parse_lora(text) == lora


async def test_loras_are_sent_in_order(fake_server: tuple[FakeServer, str]) -> None:
    """With their weights and roles; a wrong one is refused with what is known."""
    service, address = fake_server
    loras = ("--lora", "ink=0.5:style", "--lora", "mara:character")
    sent, wrong = await asyncio.gather(
        atelier("generate", "x", *loras, "--detach", "--server", address),
        atelier("generate", "x", "--lora", "ink=1:stile", "--server", address),
    )
    (request,) = (ask for ask in service.requests if isinstance(ask, pb.GenerateRequest))
    assert sent.code == 0
    assert [(lora.name, lora.role, lora.weight) for lora in request.image.loras] == [
        ("ink", LoraRole.STYLE.number, 0.5),
        ("mara", LoraRole.CHARACTER.number, 0),
    ]
    assert wrong.code == 2
    assert "'stile' is not a role: style, character, cinematic" in wrong.err
