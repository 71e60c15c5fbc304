"""The benchmark for a GPU runs dry on a CPU, and writes its table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from bench.gpu import measure, networks, table
from bench.gpu.image import Case
from tests.conftest import ROOT


def test_dry_run_measures_every_component() -> None:
    """As many operations as torch counts; the floor is unknown without a card that is known."""
    device = torch.device("cpu")
    with torch.inference_mode():
        made = networks.create(device, torch.float32, small=True)
        found = measure.measure(made, Case(side=64, batch=2, controlled=True), "eager")
    assert set(found.parts) == {"text encoders", "denoiser", "ControlNet", "decoder"}
    assert min(found.image, found.diffusers, *found.parts.values()) > 0
    assert (found.floors, found.image_floor) == ({}, None)
    text = table.render({"card": "none"}, [found], ["CUDA graphs: there is no CUDA device"])
    (row,) = [line for line in text.splitlines() if line.startswith("| eager")]
    assert row.count("|") == 10
    assert "64² × 2 + ControlNet" in row
    assert "- CUDA graphs: there is no CUDA device" in text


def test_command_says_what_it_had_no_time_for(tmp_path: Path) -> None:
    """And writes the table all the same."""
    command = [sys.executable, "-m", "bench.gpu", "--small", "--seconds", "0", "--way", "eager"]
    subprocess.run([*command, "--out", str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    values = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert values["measured"] == []
    assert values["left_out"][0] == "eager, 64² × 1: no time left"
    assert "Not measured:" in (tmp_path / "gpu.md").read_text("utf-8")
