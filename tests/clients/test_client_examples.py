"""The example of each client draws a picture and saves it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import ROOT, RunningServer

pytestmark = pytest.mark.clients

_JAVA = ROOT / "clients/java/target"
EXAMPLES: dict[str, tuple[list[str], Path]] = {
    "go": ([], ROOT / ".tools/bin/go-draw"),
    "java": (
        ["java", "-cp", f"{_JAVA}/classes:{_JAVA}/dependency/*:{_JAVA}/examples", "Draw"],
        _JAVA,
    ),
    "rust": ([], ROOT / ".tools/rust/debug/examples/draw"),
    "typescript": (["node"], ROOT / "clients/typescript/dist/example.js"),
}
"""How each is started, and what `make clients-test` has built of it."""


@pytest.mark.parametrize("language", EXAMPLES)
def test_an_example_draws_a_picture(language: str, server: RunningServer, tmp_path: Path) -> None:
    """With a bar that comes to its end; the file has the size of the engine's default."""
    start, built = EXAMPLES[language]
    if not built.exists():
        pytest.skip(f"the example in {language} is not built")
    command = [*start, *([] if built.is_dir() else [str(built)])]
    ran = subprocess.run(
        [*command, "a red apple", "apple.png", f"http://{server.address}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert "#" * 30 in ran.stderr
    with Image.open(tmp_path / "apple.png") as picture:
        picture.load()
        assert picture.size == (512, 512)
