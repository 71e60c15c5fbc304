"""Files are written whole or not at all, by the library, by commands and by `init`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from atelier_client import Artifact, Image
from atelier_client.cli.contact_sheets import Entry, write_contact_sheet
from atelier_client.errors import InvalidRequestError
from atelier_client.whole_files import overwrite, write_new
from tests.client.atelier_command import atelier
from tests.conftest import RunningServer
from tests.small_disk import MountError, mounted

TOO_MUCH = bytes(2**17)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    folder = tmp_path / "disk"
    try:
        with mounted(folder, 2**16):
            yield folder
    except MountError as error:
        pytest.skip(str(error))


def names_in(folder: Path) -> list[str]:
    """The files in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_a_full_disk_leaves_no_part_of_a_file(disk: Path) -> None:
    """Nor does it cost the file that was to be overwritten."""
    old = disk / "old.png"
    old.write_bytes(b"old")
    artifact = Artifact(id="a1", media_type="image/png", size=len(TOO_MUCH), sha256="")
    with pytest.raises(OSError, match="No space left"):
        write_new(disk / "new.png", TOO_MUCH)
    with pytest.raises(OSError, match="No space left"):
        Image(artifact=artifact, seed=1, content=TOO_MUCH).save(old)
    assert names_in(disk) == ["old.png"]
    assert old.read_bytes() == b"old"


def test_links_and_pipes_stay_what_they_are(tmp_path: Path) -> None:
    """The file behind a link gets the new content, and who reads from a pipe."""
    (tmp_path / "real.png").write_bytes(b"old")
    link, pipe = tmp_path / "link.png", tmp_path / "pipe"
    link.symlink_to("real.png")
    overwrite(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "real.png").read_bytes() == b"new"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        overwrite(pipe, b"new")
        assert os.read(reader, 9) == b"new"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert names_in(tmp_path) == ["link.png", "pipe", "real.png"]


async def test_commands_leave_no_part_of_a_file(server: RunningServer, disk: Path) -> None:
    """The same name is free for the command that the error tells, and `init` leaves nothing either."""
    at = ("--server", server.address)
    large = ("--size", "1024", "--seed", "1")  # of some seeds, smaller images fit
    made = await atelier("generate", "x", *large, "-o", "a.png", *at, cwd=disk)
    left = names_in(disk)
    (disk / "fill").write_bytes(bytes(2**16))
    begun = await atelier("init", cwd=disk)
    assert (made.code, left) == (2, [])
    assert "cannot write a.png: No space left on device; `atelier show" in made.err
    assert (begun.code, names_in(disk)) == (2, ["fill"])


def test_a_sheet_that_cannot_be_written_is_told_in_one_line(disk: Path, tmp_path: Path) -> None:
    """With what is saved already."""
    image = Path(__file__).parent.parent.parent / "models" / "tiny" / "contact-sheet.png"
    (disk / "fill").write_bytes(bytes(2**16))
    with pytest.raises(InvalidRequestError, match="No space left on device; the images are saved"):
        write_contact_sheet(disk / "sheet.png", [Entry(path=image, label="x")])
    broken = tmp_path / "broken.png"
    broken.write_bytes(image.read_bytes()[:2000])
    with pytest.raises(InvalidRequestError, match="truncated"):
        write_contact_sheet(tmp_path / "sheet.png", [Entry(path=broken, label="x")])
