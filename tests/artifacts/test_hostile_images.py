"""Whatever is in an image file, decoding it stays within its budget and ends in an error of ours."""

from __future__ import annotations

import subprocess
import sys

import pytest

FILES = 4000


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of memory that the system keeps")
def test_damaged_images_stay_within_their_budget() -> None:
    """In a process that has no more memory than that: it is neither killed nor out of memory."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.artifacts.hostile_images"]
    ended = subprocess.run([*command, "16", str(FILES)], capture_output=True, text=True, check=True)
    decoded, refused = map(int, ended.stdout.split())
    assert decoded + refused == FILES
    assert min(decoded, refused) > FILES // 10
