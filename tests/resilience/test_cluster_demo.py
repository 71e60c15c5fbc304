"""The demo of a cluster draws its image, while a worker and a gateway are killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

from tests.conftest import ROOT


def test_the_demo_of_a_cluster_draws_its_image(tmp_path: Path) -> None:
    """Its client follows every tile from the first event to the last, each once, over the loss of its gateway."""
    demo = ROOT / "examples" / "cluster" / "demo.py"
    command: list[str | Path] = ["/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable, demo]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "killed gateway-1" in done.stdout
    with Image.open(tmp_path / "out" / "cluster.png") as sheet:
        assert sheet.size == (384, 384)
        assert len(sheet.convert("RGB").getcolors(2**24) or ()) > 100
