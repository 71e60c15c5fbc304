"""What files tell of themselves without being read whole."""

from __future__ import annotations

import os
from pathlib import Path

from atelier_engines.local.weights import digests


def test_a_file_that_was_changed_is_another(tmp_path: Path) -> None:
    """By its size or by its time."""
    path = tmp_path / "weights"
    path.write_bytes(b"1234")
    before = digests.identify(path)
    assert digests.identify(tmp_path / "." / "weights") == before
    os.utime(path, ns=(1, 1))
    assert digests.identify(path) != before
