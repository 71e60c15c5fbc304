"""Every example runs unchanged against the real server."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from PIL import Image

from tests.client.atelier_command import PLAIN
from tests.conftest import ROOT, RunningServer

EXAMPLES = ROOT / "examples"


async def run(server: RunningServer, cwd: Path, name: str, *arguments: str) -> str:
    """Run an example and return what it printed; a failure shows its stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLES / name,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=PLAIN | {"ATELIER_SERVER": server.address},
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


def names_in(folder: Path) -> set[str]:
    """The files in a folder."""
    return {path.name for path in folder.iterdir()}


async def test_generate(server: RunningServer, tmp_path: Path) -> None:
    """Shows progress and saves an image."""
    out = await run(server, tmp_path, "generate.py", "a lighthouse", "a.png")
    assert "saved a.png" in out
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (128, 128)


async def test_sync(server: RunningServer, tmp_path: Path) -> None:
    """The same seed makes the same image."""
    assert (await run(server, tmp_path, "sync.py", "a lighthouse")).endswith("equal\n")


async def test_reattach(server: RunningServer, tmp_path: Path) -> None:
    """The generation outlives the process that follows it."""
    out = await run(server, tmp_path, "reattach.py", "a lighthouse", "a.png")
    assert "continuing after event 1" in out
    assert (tmp_path / "a.png").exists()


async def test_upload_img2img(server: RunningServer, tmp_path: Path) -> None:
    """Two images from one that was uploaded."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "photo.png")
    await run(server, tmp_path, "upload_img2img.py", "photo.png", "in oil", "as a woodcut")
    assert names_in(tmp_path) == {
        "photo.png",
        "photo-1.png",
        "photo-2.png",
    }


async def test_embedded(server: RunningServer, tmp_path: Path) -> None:
    """A server of its own, in the same process, with an engine type that the program has registered."""
    assert "saved a.png" in await run(server, tmp_path, "embedded.py", "a lighthouse", "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (512, 512)


def test_examples_are_short_and_all_tested() -> None:
    """At most forty lines each; the demo, which starts a server too, is a program of its own."""
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {
        "generate.py",
        "sync.py",
        "reattach.py",
        "upload_img2img.py",
        "demo.py",
        "embedded.py",
    }
    for name in names - {"demo.py"}:
        assert len((EXAMPLES / name).read_text().splitlines()) <= 40, name
