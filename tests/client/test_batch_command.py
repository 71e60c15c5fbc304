"""`batch`, `--matrix`, `--grid`, `rerun` and `vary`: many images from one command."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atelier_client import AsyncClient, Client, Priority
from atelier_client.cli.batch_items import build_item, read_items
from atelier_client.cli.batch_manifest import BatchManifest, BatchResult
from atelier_client.cli.batch_running import BatchRun, Spending
from atelier_client.cli.matrix import build_matrix
from atelier_client.tasks import ImageTask
from tests.client.atelier_command import Finished, atelier, start
from tests.conftest import RunningServer, StartServer, launch

ENGINES = {
    "sketch": {"type": "sketch"},
    "dear": {"type": "sketch", "price_per_image": 0.5},
    "broken": {"type": "sketch", "fail_rate": 1.0},
    "slow": {"type": "sketch", "delay_seconds": 1.0},
}
SMALL = ("--set", "width=16", "--set", "height=16", "--set", "steps=1")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with engines that cost, fail and take their time."""
    running = launch(tmp_path_factory.mktemp("served"), engines=ENGINES)
    yield running
    running.kill()


async def batch(served: RunningServer, file: Path, *arguments: str) -> Finished:
    """Run `atelier batch` in the folder of the file."""
    at = ("--server", served.address)
    return await atelier("batch", file.name, *SMALL, *arguments, *at, cwd=file.parent)


def write(folder: Path, name: str, text: str) -> Path:
    """Write a file, and return its path."""
    path = folder / name
    path.write_text(text)
    return path


def results_in(folder: Path) -> list[dict[str, Any]]:
    """The results of a batch, in the order of the tasks."""
    _, *lines = map(json.loads, (folder / "results.jsonl").read_text().splitlines())
    return sorted(lines, key=lambda line: int(line["number"]))


def wait_for_generation(address: str) -> None:
    """Wait until the server has accepted something."""
    with Client(address) as client:
        while not list(client.list()):
            time.sleep(0.02)


def names_in(folder: Path) -> list[str]:
    """The files in a folder."""
    return sorted(path.name for path in folder.iterdir())


async def test_a_batch_continues_where_it_ended(served: RunningServer, tmp_path: Path) -> None:
    """Images, results and a sheet; the same command makes only what is new, or missing."""
    file = write(tmp_path, "prompts.txt", "a cup\n\na hat\n")
    first = await batch(served, file)
    write(tmp_path, "prompts.txt", "a cup\na hat\na key\n")
    (tmp_path / "prompts" / "0002-a-hat.png").unlink()
    second = await batch(served, file)
    third = await batch(served, file)
    assert first.out == "2 made: prompts/contact-sheet.png\n"
    assert second.out == "2 made, 1 made before: prompts/contact-sheet.png\n"
    assert third.out == "0 made, 3 made before: prompts/contact-sheet.png\n"
    assert names_in(tmp_path / "prompts") == [
        *("0001-a-cup.png", "0002-a-hat.png", "0003-a-key.png"),
        *("contact-sheet.png", "results.jsonl"),
    ]


@pytest.mark.parametrize("priority", [Priority.BATCH, Priority.INTERACTIVE])
async def test_a_batch_waits_behind_what_somebody_waits_for(
    served: RunningServer, tmp_path: Path, priority: Priority
) -> None:
    """Unless it is asked to be interactive; `generate` says it the other way round, and `show` names it."""
    write(tmp_path, "a.txt", f"a {priority} cup\n")
    wanted = () if priority is Priority.BATCH else ("--priority", "interactive")
    assert (await batch(served, tmp_path / "a.txt", *wanted)).code == 0
    made = results_in(tmp_path / "a")[0]["id"]
    async with AsyncClient(served.address) as client:
        assert (await client.get(made)).priority is priority
    shown = await atelier("show", made, "--server", served.address)
    assert ("priority   batch" in shown.out) is (priority is Priority.BATCH)


async def test_a_generation_is_interactive_unless_it_may_wait(
    served: RunningServer, tmp_path: Path
) -> None:
    """As the option of `generate` says."""
    for options, priority in (
        ((), Priority.INTERACTIVE),
        (("--priority", "batch"), Priority.BATCH),
    ):
        at = ("--size", "16", "--json", "--server", served.address)
        run = await atelier("generate", "a cup", *options, *at, cwd=tmp_path)
        assert json.loads(run.out.splitlines()[-1])["generation"]["priority"] == priority


async def test_an_interrupted_batch_makes_nothing_twice(
    served: RunningServer, tmp_path: Path
) -> None:
    """What ran goes on at the server, and the next run takes it from there."""
    write(tmp_path, "a.txt", "one\ntwo\nthree\nfour\n")
    options = (*SMALL, "--set", "engine=slow", "--concurrency", "2", "--server", served.address)
    process = await start("batch", "a.txt", *options, cwd=tmp_path)
    assert process.stderr is not None
    await process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, told = await process.communicate()
    again = await atelier("batch", "a.txt", *options, cwd=tmp_path)
    async with AsyncClient(served.address) as client:
        made = [generation async for generation in client.list(engine="slow")]
    assert process.returncode == 130
    assert b"the same command continues" in told
    assert again.code == 0
    assert sorted(generation.prompt for generation in made) == ["four", "one", "three", "two"]
    assert {line["id"] for line in results_in(tmp_path / "a")} == {one.id for one in made}


async def test_what_failed_is_tried_again(served: RunningServer, tmp_path: Path) -> None:
    """Under another id; the others are made all the same, and the exit code says that some failed."""
    file = write(tmp_path, "a.jsonl", '{"prompt": "x"}\n{"prompt": "y", "engine": "broken"}\n')
    first = await batch(served, file)
    second = await batch(served, file, "--json")
    assert (first.code, second.code) == (1, 1)
    assert first.out.startswith("1 made, 1 failed")
    assert "2: the sketch engine failed" in first.err
    one, *failures = results_in(tmp_path / "a")
    assert one["state"] == "succeeded"
    assert len({line["id"] for line in failures}) == 2
    documents: list[Any] = second.documents
    assert [documents[0]["result"]["number"], documents[1]["before"]] == [2, 1]


async def test_a_batch_stays_within_its_cost(served: RunningServer, tmp_path: Path) -> None:
    """Tasks that run at the same time included; a higher limit makes the rest."""
    file = write(tmp_path, "a.csv", "prompt,seed,engine\na,1,dear\nb,2,dear\nc,,dear\nd,,dear\n")
    some = await batch(served, file, "--max-cost", "1.2")
    rest = await batch(served, file, "--max-cost", "2")
    assert (some.code, rest.code) == (1, 0)
    assert some.out.startswith("2 made, 2 not started: the limit of cost, 1 USD")
    assert rest.out.startswith("2 made, 1 USD, 2 made before")
    assert sum(line["cost"] for line in results_in(tmp_path / "a")) == 2.0
    assert results_in(tmp_path / "a")[0]["seeds"] == [1]


async def test_what_is_made_but_not_saved_is_taken_from_the_server(
    served: RunningServer, tmp_path: Path
) -> None:
    """A full disk, say, costs no second generation."""
    file = write(tmp_path, "a.jsonl", '{"prompt": "x", "engine": "dear"}\n')
    obstacle = tmp_path / "a" / "0001-x.png"
    obstacle.mkdir(parents=True)
    first = await batch(served, file)
    obstacle.rmdir()
    second = await batch(served, file)
    unsaved, saved = results_in(tmp_path / "a")
    assert (first.code, unsaved["state"]) == (1, "unfinished")
    assert "cannot write a/0001-x.png" in first.err
    assert (second.code, saved["state"]) == (0, "succeeded")
    assert saved["id"] == unsaved["id"]


async def test_a_lost_server_makes_nothing_twice(start_server: StartServer, tmp_path: Path) -> None:
    """The server finishes, when it is back, what it had accepted; the next run takes it from there."""
    engines = {"slow": {"type": "sketch", "delay_seconds": 1.0}}
    first = await asyncio.to_thread(start_server, engines=engines)
    folder, item = tmp_path / "made", build_item(1, {"prompt": "x", "width": 16, "height": 16})
    patience = 0.2

    def run() -> BatchResult:
        results: list[BatchResult | None] = []
        with (
            Client(first.address, reconnect_timeout_seconds=patience) as client,
            BatchManifest(folder) as manifest,
        ):
            BatchRun(
                client=client,
                manifest=manifest,
                spending=Spending(limit=None),
                keywords={},
                report=lambda _, result: results.append(result),
            ).run([item], 1)
        (result,) = results
        assert result is not None
        return result

    running = asyncio.create_task(asyncio.to_thread(run))
    await asyncio.to_thread(wait_for_generation, first.address)
    await asyncio.to_thread(first.kill)
    lost = await running
    await asyncio.to_thread(start_server, address=first.address, engines=engines)
    made = await asyncio.to_thread(run)
    assert (lost.state, made.state) == ("unfinished", "succeeded")
    assert lost.id == made.id


async def test_two_runs_never_write_one_folder(served: RunningServer, tmp_path: Path) -> None:
    """The second is refused while the first runs, of whichever file; it loses and makes nothing."""
    write(tmp_path, "a.txt", "one cup\ntwo cups\n")
    write(tmp_path, "b.txt", "a hat\n")
    at = (*SMALL, "--server", served.address, "-o", "made")
    first = await start("batch", "a.txt", "--set", "engine=slow", *at, cwd=tmp_path)
    while not (tmp_path / "made" / "results.jsonl").exists():  # noqa: ASYNC110 (of another process)
        await asyncio.sleep(0.02)
    same = await atelier("batch", "a.txt", "--set", "engine=slow", *at, cwd=tmp_path)
    other = await atelier("batch", "b.txt", *at, cwd=tmp_path)
    await first.communicate()
    after = await atelier("batch", "a.txt", "--set", "engine=slow", *at, cwd=tmp_path)
    assert (same.code, other.code, first.returncode) == (2, 2, 0)
    assert "another run writes made/results.jsonl" in same.err
    assert "another run writes made/results.jsonl" in other.err
    assert after.out.startswith("0 made, 2 made before")
    assert [line["prompt"] for line in results_in(tmp_path / "made")] == ["one cup", "two cups"]


async def test_files_with_one_folder_keep_what_each_made(
    served: RunningServer, tmp_path: Path
) -> None:
    """Also where their tasks have the same prompt, and where a task is edited and the edit is undone."""
    for name, steps in (("a", 1), ("b", 2)):
        write(tmp_path, f"{name}.csv", f"prompt,steps,engine\na cup,{steps},dear\n")
    runs = [
        await batch(served, tmp_path / f"{name}.csv", "-o", "made") for name in ("a", "b", "a", "b")
    ]
    assert [run.out.partition(":")[0] for run in runs] == [
        *("1 made, 0.5 USD", "1 made, 0.5 USD"),
        *("0 made, 1 made before", "0 made, 1 made before"),
    ]
    one, other = results_in(tmp_path / "made")
    assert one["files"] == ["0001-a-cup.png"]
    assert other["files"] == [f"0001-a-cup-{other['digest']}.png"]


async def test_a_result_that_was_cut_is_no_damage(served: RunningServer, tmp_path: Path) -> None:
    """A kill or a full disk may end a line, and two batches may begin at the same time."""
    file = write(tmp_path, "a.txt", "x\n")
    await batch(served, file)
    with (tmp_path / "a" / "results.jsonl").open("a") as results:
        results.write('{"batch": "0"}\n{"number": 1, "dig')
    again = await batch(served, file)
    assert (again.code, again.out) == (0, "0 made, 1 made before: a/contact-sheet.png\n")
    write(tmp_path, "a/results.jsonl", "")
    assert (await batch(served, file)).out == "1 made: a/contact-sheet.png\n"


@pytest.mark.parametrize(
    ("name", "text", "tasks"),
    [
        ("a.csv", "\ufeffprompt,steps\r\na cup,4\r\n", [("a cup", 4)]),
        (
            "a.csv",
            'prompt,steps\n"two\nlines",5\n"a ""b""",\n',
            [("two\nlines", 5), ('a "b"', None)],
        ),
        ("a.csv", "prompt;steps\na cup, red;4\n", [("a cup, red", 4)]),
        ("a.csv", '"prompt"\t"steps"\r"a"\t"4"\r', [("a", 4)]),
        ("a.csv", "\n,\nprompt,steps,\n\n a , 4.0 ,,\n,,\n", [("a", 4)]),
        (
            "a.jsonl",
            '\ufeff{"prompt": "a"}\r\n \n{"prompt": "b", "steps": 4.0}',
            [("a", None), ("b", 4)],
        ),
        ("a.jsonl", '{"prompt": "a\u2028b", "steps": null}', [("a\u2028b", None)]),
        ("A.TXT", "\ufeff a\r\n\n b\x0bc \n", [("a", None), ("b\x0bc", None)]),
    ],
)
def test_files_of_other_programs_are_read(
    name: str, text: str, tasks: list[tuple[str, int | None]], tmp_path: Path
) -> None:
    """Byte order marks, quotes, the separators and the line ends of spreadsheets, cells that are empty."""
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert [(item.task.prompt, item.task.steps) for item in read_items(path, {})] == tasks


def test_a_digest_is_of_the_whole_task() -> None:
    """Also of what is far back in a long text; what is not given does not count."""
    long = {"prompt": "a " * 100 + "cup", "init_image": "/somewhere/" + "far/" * 20 + "a.png"}
    items = [
        build_item(1, long),
        build_item(1, long | {"prompt": "a " * 100 + "hat"}),
        build_item(1, long | {"init_image": "/somewhere/" + "far/" * 20 + "b.png"}),
        build_item(1, long | {"engine": "tiny"}),
    ]
    assert len({item.digest for item in items}) == 4
    assert build_item(1, {"prompt": "x", "steps": "4"}).digest == "bc7fcb5ade06e303"
    assert build_item(1, {"prompt": "x", "format": "webp"}).digest == "62d630acecd7b997"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", 'prompt,steps\n"a,4\nb,5\n', "cannot read a.csv: line 3: unexpected end of data"),
        ("a.csv", "prompt\na, b\n", "line 2: a row has more cells than there are columns; quote"),
        ("a.jsonl", '{"prompt": "x", "guidance": NaN}\n', "task 1: guidance: nan does not fit"),
        ("a.jsonl", '{"prompt": true}\n', "task 1: prompt: True does not fit"),
        ("a.jsonl", '{"prompt": "x", "steps": "1_0"}\n', "task 1: steps: '1_0' does not fit"),
        ("a.jsonl", '{"prompt": "x", "steps": 4.5}\n', "task 1: steps: 4.5 does not fit"),
        ("a.jsonl", '{"prompt": " "}\n', "task 1: there is no prompt"),
        ("a.csv", "prompt,taste\nx,sweet\n", "a.csv: task 1: no field 'taste'; there are prompt"),
        ("a.csv", "prompt,steps\nx,1\nx,many\n", "task 2: steps: 'many' does not fit"),
        ("a.csv", "prompt\nx,1\n", "more cells than there are columns"),
        ("a.csv", "prompt, prompt\nx,y\n", "there are several columns 'prompt'"),
        ("a.jsonl", '{"prompt": ["x"]}\n', "task 1: prompt: ['x'] does not fit"),
        ("a.jsonl", '{"prompt": "x", "seed": {}}\n', "task 1: seed: {} does not fit"),
        ("a.jsonl", '{"prompt": "\\ud800"}\n', "task 1: prompt: '\\ud800' does not fit"),
        ("a.jsonl", '{"prompt": "x"}\n{"prompt": "y"', "task 2: Expecting ',' delimiter"),
        ("a.jsonl", "[" * 100_000, "cannot read a.jsonl: maximum recursion depth"),
        ("a.jsonl", "[1]\n", "is not a JSON object"),
        ("a.jsonl", '{"seed": 1}\n', "task 1: there is no prompt"),
        ("a.txt", "\n", "there are no tasks in a.txt"),
        ("a.md", "x", "it must end with .txt, .csv or .jsonl, not .md"),
    ],
)
async def test_a_wrong_file_is_refused_before_anything_is_started(
    name: str, text: str, told: str, tmp_path: Path
) -> None:
    """With the number of the task; no server is asked."""
    write(tmp_path, name, text)
    ended = await atelier("batch", name, "--server", "127.0.0.1:1", cwd=tmp_path)
    assert ended.code == 2
    assert told in ended.err
    assert names_in(tmp_path) == [name]


async def test_another_encoding_is_refused(tmp_path: Path) -> None:
    """With the line that is not UTF-8."""
    (tmp_path / "a.txt").write_bytes(b"a cup\ncaf\xe9\n")
    ended = await atelier("batch", "a.txt", "--server", "127.0.0.1:1", cwd=tmp_path)
    assert (ended.code, "line 2 is not UTF-8 text; save" in ended.err) == (2, True)


async def test_a_matrix_is_every_combination_on_one_sheet(
    served: RunningServer, tmp_path: Path
) -> None:
    """With one seed; words that are no axis are told to be quoted."""
    task = ("generate", "an owl", "--size", "32", "--server", served.address)
    made, wrong, unquoted = await asyncio.gather(
        atelier(*task, "--matrix", "steps=1,2", "guidance=1,2,3", "-o", "m", cwd=tmp_path),
        atelier(*task, "--matrix", "flavour=1", cwd=tmp_path),
        atelier(*task, "flying", cwd=tmp_path),
    )
    assert (made.out, made.code) == ("6 made: m/contact-sheet.png\n", 0)
    assert "0004-steps-2-guidance-1.png" in names_in(tmp_path / "m")
    assert len({seed for line in results_in(tmp_path / "m") for seed in line["seeds"]}) == 1
    with Image.open(tmp_path / "m" / "contact-sheet.png") as sheet:
        assert sheet.width > sheet.height / 2
    assert "no field 'flavour'" in wrong.err
    assert "put the prompt in quotes" in unquoted.err


def test_the_last_axis_changes_fastest() -> None:
    """Whatever the task says of these fields; its seed is kept."""
    axes = (("steps", ("1", "2")), ("style", ("a", "b")))
    items = build_matrix(ImageTask(prompt="x", seed=5, steps=9), "sketch", axes)
    assert [(item.task.steps, item.task.style) for item in items] == [
        *((1, "a"), (1, "b"), (2, "a"), (2, "b"))
    ]
    assert {(item.task.seed, item.engine) for item in items} == {(5, "sketch")}
    assert items[2].label == "steps=2 style=a"


async def test_a_generation_is_run_again_and_varied(served: RunningServer, tmp_path: Path) -> None:
    """The same bytes with the same seed, others with another; variations start from the image."""
    at = ("--server", served.address)
    two = ("--num-images", "2", "--grid")
    await atelier("generate", "an owl", "--size", "32", *two, *at, "-o", "a.png", cwd=tmp_path)
    listed = await atelier("list", "--json", "--limit", "1", *at)
    owl: Any = listed.documents[0]
    owl = owl["generations"][0]["id"]
    same, other, varied, missing, webp, sound = await asyncio.gather(
        atelier("rerun", owl, "-o", "same.png", *at, cwd=tmp_path),
        atelier("rerun", owl, "--seed", "3", "-o", "other.png", *at, cwd=tmp_path),
        atelier("vary", owl, "--index", "2", "--strength", "0.3", "-o", "v.png", *at, cwd=tmp_path),
        atelier("vary", owl, "--index", "3", *at, cwd=tmp_path),
        atelier("rerun", owl, "-o", "w.webp", *at, cwd=tmp_path),
        atelier("rerun", owl, "-o", "w.wav", *at, cwd=tmp_path),
    )
    assert (same.code, other.code, varied.code, missing.code) == (0, 0, 0, 2)
    assert (webp.code, sound.code) == (0, 2)
    assert "the task makes images, not wav" in sound.err
    assert names_in(tmp_path) == [
        *("a-1.png", "a-2.png", "an-owl-grid.png", "other-1.png", "other-2.png"),
        *("same-1.png", "same-2.png", "v.png", "w-1.webp", "w-2.webp"),
    ]
    content = {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)}
    assert content["same-2.png"] == content["a-2.png"]
    assert content["other-1.png"] != content["a-1.png"]
    assert "(seed 3," in other.out
    varied_id = varied.err.split()[1]
    async with AsyncClient(served.address) as client:
        task = (await client.get(varied_id)).task
    assert isinstance(task, ImageTask)
    assert (task.prompt, task.width) == ("an owl", 32)
    assert task.strength == pytest.approx(0.3)
    assert task.init_image is not None
    assert "there is no image 3 to vary" in missing.err
