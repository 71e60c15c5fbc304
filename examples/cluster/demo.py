"""`make demo-cluster`: two gateways and three workers draw out/cluster.png, while one of each is killed.

PostgreSQL and the S3 server are those that the tests start. Nothing is left behind but the image and the logs.
"""

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from atelier_client import AsyncClient, AtelierError
from atelier_client.results import Progress
from tests.artifacts.bucket_server import ACCESS_KEY_ID, SECRET_ACCESS_KEY, BucketServer
from tests.conftest import free_port
from tests.postgres_server import PostgresServer

ATELIER = Path(sys.executable).with_name("atelier")
CONFIG = Path(__file__).with_name("atelier.yaml")
OUT = Path("out")
SIDE, COLUMNS, ROWS = 128, 3, 3
START_SECONDS = 300.0


class Cluster:
    """The servers, by name."""

    def __init__(self, directory: Path, variables: dict[str, str]) -> None:
        """Keep data and logs in the directory."""
        self._directory = directory
        self._variables = variables
        self._servers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, role: str, **variables: str) -> None:
        """Start a server."""
        given = [f"{key}={value}" for key, value in {**self._variables, **variables}.items()]
        data = ("--data-dir", self._directory / name)
        command = (ATELIER, "serve", "--config", CONFIG, "--role", role, *data)
        with (OUT / f"cluster-{name}.log").open("wb") as log:
            self._servers[name] = subprocess.Popen(  # noqa: S603 - our own program
                ("/usr/bin/env", *given, *command), stdout=log, stderr=subprocess.STDOUT
            )

    def kill(self, name: str) -> None:
        """Take a server away without warning."""
        server = self._servers.pop(name)
        server.kill()
        server.wait()

    def kill_all(self) -> None:
        """Take away what is left."""
        for name in list(self._servers):
            self.kill(name)


@contextlib.contextmanager
def shared_places(directory: Path) -> Iterator[dict[str, str]]:
    """A database and a bucket; yields the variables of atelier.yaml that say where."""
    database, bucket = PostgresServer(directory / "postgres"), BucketServer(directory / "s3")
    try:
        database.start()
        bucket.start()
        yield {
            "DATABASE": database.address,
            "S3": f"http://127.0.0.1:{bucket.port}",
            "S3_KEY_ID": ACCESS_KEY_ID,
            "S3_SECRET": SECRET_ACCESS_KEY,
        }
    finally:
        bucket.stop()
        database.stop()


async def wait_for_workers(client: AsyncClient, count: int) -> None:
    """Wait until the gateways know of so many slots."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(AtelierError):
            engines = (await client.capabilities()).engines
            if sum(engine.load.concurrency for engine in engines) == count:
                return
        await asyncio.sleep(0.2)
    raise TimeoutError(f"no {count} workers after {START_SECONDS:.0f} s: see {OUT}/cluster-*.log")


async def draw(client: AsyncClient, number: int) -> list[Progress]:
    """All events of one tile; the client goes on at the other gateway when one is lost."""
    options = {"delay_seconds": 2.0}
    stream = client.stream(
        f"tile {number}", engine="sketch", width=SIDE, height=SIDE, steps=8, options=options
    )
    return [event async for event in stream]


async def draw_all(cluster: Cluster, addresses: list[str]) -> None:
    """Draw all tiles, with one worker and one gateway less on the way."""
    async with AsyncClient(f"ipv4:{','.join(addresses)}") as client:
        await wait_for_workers(client, 3)
        print("two gateways and three workers are ready", flush=True)
        tiles = [asyncio.create_task(draw(client, number)) for number in range(COLUMNS * ROWS)]
        await asyncio.sleep(1.5)
        cluster.kill("worker-1")
        print("killed worker-1", flush=True)
        await asyncio.sleep(1)
        cluster.kill("gateway-1")
        print("killed gateway-1, which the client was using", flush=True)
        drawn = await asyncio.gather(*tiles)
        sheet = Image.new("RGB", (COLUMNS * SIDE, ROWS * SIDE))
        for number, events in enumerate(drawn):
            sequences = [event.sequence for event in events]
            if sequences != list(range(1, len(sequences) + 1)):
                raise ValueError(f"tile {number} has the events {sequences}")
            made = events[-1].generation
            if made is None:
                raise ValueError(f"tile {number} has no end")
            path = made.images[0].save(OUT / f"cluster-{number}.png")
            row, column = divmod(number, COLUMNS)
            with Image.open(path) as tile:
                sheet.paste(tile, (column * SIDE, row * SIDE))
            path.unlink()
        sheet.save(OUT / "cluster.png")


def main() -> None:
    """Start everything, draw, and stop everything in any case."""
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cluster-", dir="/tmp") as temporary:
        directory = Path(temporary)
        directory.chmod(0o755)  # the database runs as another user where this is root
        with shared_places(directory) as variables:
            cluster = Cluster(directory, variables)
            addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
            try:
                for number, address in enumerate(addresses, 1):
                    cluster.start(f"gateway-{number}", "gateway", LISTEN=address)
                for number in range(1, 4):
                    cluster.start(f"worker-{number}", "worker")
                asyncio.run(draw_all(cluster, addresses))
            finally:
                cluster.kill_all()
    print(f"The image is {(OUT / 'cluster.png').resolve()}: every event of every tile came once")


main()
