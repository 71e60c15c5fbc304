"""What kill -9 leaves is whole, whichever write of a generation's path it comes before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killed_between_writes.py")


@pytest.mark.parametrize("file", ["new", "recycled"])
def test_a_kill_before_any_write_loses_nothing_and_makes_nothing_twice(
    tmp_path: Path, file: str
) -> None:
    """Each generation is made once, with the bytes that its record names; no file is left without a record."""
    command: list[str | Path] = [sys.executable, SCRIPT, tmp_path / "data", file]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    *killed, last = map(json.loads, run.stdout.splitlines())
    assert last == {"survivor": len(killed) + 1, "status": 0}, run.stderr
    assert len(killed) > 20
    assert {found.pop("accepted_before") for found in killed} == {False, True}
    assert all(found.pop("attempts") <= 2 for found in killed)
    for number, found in enumerate(killed, 1):
        assert found == {
            "number": number,
            "generations": number,
            "succeeded": True,
            "successes": 1,
            "intact": True,
            "blobs_without_record": [],
            "records_without_blob": [],
        }
