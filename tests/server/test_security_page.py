"""The page on security: its commands work as they stand, and its table names tests that exist."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.client.atelier_command import PLAIN
from tests.conftest import ATELIER, ROOT, free_port

PAGE = (ROOT / "docs" / "security.md").read_text()


@contextmanager
def started(command: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run the command in the background, and kill it at the end."""
    with (
        (folder / "server.log").open("wb") as log,
        subprocess.Popen(
            ["/bin/bash", "-c", f"exec {command}"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            yield
        finally:
            process.kill()


def run(
    command: str, folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        ["/bin/bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def wait_for_port(port: int) -> None:
    """Return once something listens there."""
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)


def test_five_commands_are_enough(tmp_path: Path) -> None:
    """From nothing to a server with TLS and keys that answers its owner, and nobody else."""
    block = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    port = str(free_port())
    commands = block[1].replace("50051", port).strip().splitlines()
    assert len(commands) == 5
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    environment = {**PLAIN, **home, "PATH": f"{ATELIER.parent}:{PLAIN['PATH']}"}
    for command in commands[:3]:
        done = run(command, tmp_path, environment)
        assert done.returncode == 0, done.stderr
    path = tmp_path / "atelier.yaml"
    path.write_text(path.read_text() + "metrics: null\ndata_dir: data\n")
    with started(commands[3], tmp_path, environment):
        wait_for_port(int(port))
        login = run(commands[4], tmp_path, environment)
        assert login.returncode == 0, login.stderr
        made = run('atelier generate "a red apple" -o apple.png', tmp_path, environment)
        assert made.returncode == 0, made.stderr
        (tmp_path / "config" / "atelier" / "servers.json").unlink()
        stranger = f"atelier health --server https://localhost:{port} --tls-ca server.pem"
        refused = run(stranger, tmp_path, environment)
        assert (refused.returncode, "UNAUTHENTICATED" in refused.stderr) == (2, True)
    assert (tmp_path / "apple.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_names_tests_that_exist() -> None:
    """Each row has at least one."""
    table = PAGE.partition("| threat | defence | test |")[2].partition("\n\n")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    known = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    for row in rows:
        names = re.findall(r"[\w/]*(test_\w+\.py)", row.split("|")[3])
        assert names, row
        assert set(names) <= known.keys(), row
    assert len(rows) > 10
