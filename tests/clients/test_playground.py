"""The playground in a real browser against a real server: what a person does with it, and whether everybody can."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.clients.browser import BROWSER, NAMES, PAGE, PLAYGROUND
from tests.conftest import RunningServer, free_port, launch
from tests.server.http_calls import address_of
from tests.server.test_auth import make_key

pytest.importorskip("torch", reason="the extra `local` is not installed")

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(NAMES)} is installed"),
    pytest.mark.skipif(not PAGE.exists(), reason="the page is not built: `make playground`"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """With an engine of each kind that the page treats differently."""
    running = launch(
        tmp_path_factory.mktemp("playground"),
        http=f"127.0.0.1:{free_port()}",
        engines={
            "sketch": {"type": "sketch"},
            "slow": {"type": "sketch", "delay_seconds": 4},
            "hanging": {"type": "sketch", "hang": True, "concurrency": 1},
            "tiny": {"type": "diffusion", "device": "cpu"},
        },
        default_engine="sketch",
    )
    yield running
    running.kill()


@pytest.mark.parametrize(
    "case",
    [
        *("image", "cancel", "queue", "error", "control", "audio", "access"),
        *("fields", "meanwhile", "tabs", "private", "prefix"),
    ],
)
def test_a_person_can(server: RunningServer, case: str) -> None:
    """Each in a browser of its own."""
    drive(case, server)


def test_a_person_can_give_a_key(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The page is shown without one; the server wants it."""
    folder = tmp_path_factory.mktemp("guarded")
    token = make_key(folder / "keys.json")
    auth = {"keys": {"file": str(folder / "keys.json")}}
    running = launch(folder, http=f"127.0.0.1:{free_port()}", auth=auth)
    try:
        drive("key", running, token)
    finally:
        running.kill()


def drive(case: str, server: RunningServer, *arguments: str) -> None:
    """Do what the case says; see clients/playground/tests/cases.mjs."""
    address = f"http://{address_of(server)}/"
    command = ["node", "tests/cases.mjs", case, address, str(BROWSER), *arguments]
    done = subprocess.run(
        command, cwd=PLAYGROUND, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.stdout == "as it should be\n", done.stdout + done.stderr
