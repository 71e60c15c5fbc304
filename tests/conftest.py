"""The real server on a real port, for every test that wants one."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atelier.v1.generation_pb2 import STATE_QUEUED, STATE_RUNNING
from atelier.v1.generation_service_pb2 import CancelGenerationRequest, ListGenerationsRequest
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub

ROOT = Path(__file__).parent.parent
ATELIER = Path(sys.executable).with_name("atelier")
START_SECONDS = 300.0  # a busy machine takes long; whoever waits ends earlier, on a condition
STOP_SECONDS = 300.0
LEFT_SECONDS = 30.0  # what tests leave behind on purpose runs longer
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # noqa: TID251 (of pytest-xdist)
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))  # noqa: TID251 (the same)

SKETCH = {"sketch": {"type": "sketch", "concurrency": 4}}


@dataclass(slots=True)
class RunningServer:
    """A server process and where it listens."""

    address: str
    metrics_address: str
    data: Path
    config: Path
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)
    health_address: str = ""
    """Where it answers probes in plain text."""

    def kill(self) -> None:
        """Take it away without warning, as a lack of memory would."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """Ask it to stop; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def log_lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


StartServer = Callable[..., RunningServer]


def _list_ports() -> list[int]:
    """Ports of this process alone among those that test side by side, in an order of its own.

    They are below those that systems give to outgoing connections (from 32768 on Linux): one of them could take a port
    before the server does.
    """
    ports = list(range(10_000 + WORKER, 32_000, WORKERS))
    random.SystemRandom().shuffle(ports)
    return ports


_PORTS = itertools.cycle(_list_ports())


def free_port() -> int:
    """A port that nothing listens on, and that was not given before: what was given first may not listen yet."""
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError


def launch(
    directory: Path,
    *,
    address: str = "",
    wait: bool | Sequence[str] = True,
    environment: Mapping[str, str] | None = None,
    **config: object,
) -> RunningServer:
    """Start `atelier serve` with its data under `directory`; keeps the data of an earlier start there.

    Waits until all its engines can work, or those that `wait` names; not at all when that is False.
    `environment` comes on top of ours.
    """
    address = address or f"127.0.0.1:{free_port()}"
    metrics = f"127.0.0.1:{free_port()}"
    path = directory / "atelier.yaml"
    settings: dict[str, Any] = {
        "engines": SKETCH,
        "listen": address,
        "metrics": metrics,
        **({"health_listen": f"127.0.0.1:{free_port()}"} if config.get("tls") else {}),
        "data_dir": str(directory / "data"),
        **config,
    }
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    log = directory / "server.log"
    with log.open("ab") as file:
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        command: list[str | Path] = [
            *("/usr/bin/env", "--default-signal=INT,HUP", *variables),
            *(ATELIER, "serve", "--config", path),
        ]
        process = subprocess.Popen(command, stdout=file, stderr=file)
    server = RunningServer(address, metrics, directory / "data", path, log, process)
    server.health_address = str(settings.get("health_listen", address))
    try:
        if wait is not False:
            wait_until_serving(server, ["", *settings["engines"]] if wait is True else wait)
    except BaseException:
        server.kill()
        raise
    return server


def wait_until_serving(server: RunningServer, services: Sequence[str]) -> None:
    """Wait until the server answers, and grpc.health.v1 says SERVING for those names; the server's own is empty."""
    serving = health_pb2.HealthCheckResponse.SERVING
    answered = (serving, health_pb2.HealthCheckResponse.NOT_SERVING)
    end = time.monotonic() + START_SECONDS
    with grpc.insecure_channel(server.health_address or server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service, wanted in [("", answered), *((name, (serving,)) for name in services)]:
            while _status(stub, service) not in wanted:
                if server.process.poll() is not None or time.monotonic() > end:
                    pytest.fail(
                        f"the server does not serve {service!r}:\n{server.log.read_text()[-3000:]}"
                    )
                time.sleep(0.02)


def _status(stub: health_pb2_grpc.HealthStub, service: str) -> int | None:
    try:
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=1)  # type: ignore[attr-defined]  # grpc-health-checking's types lack the call
    except grpc.RpcError:
        return None
    return int(answer.status)


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers for one test, with settings of its own; they are stopped after it."""
    started: list[RunningServer] = []

    def start(**config: object) -> RunningServer:
        server = launch(tmp_path, **config)  # type: ignore[arg-type]  # settings by name
        started.append(server)
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.kill()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server with the engine `sketch`; tests ask for it as `server`."""
    running = launch(tmp_path_factory.mktemp("server"))
    yield running
    running.kill()


@pytest.fixture
def server(shared_server: RunningServer) -> Iterator[RunningServer]:
    """The shared server; fails a test that leaves generations behind, which would slow or miscount the next ones."""
    yield shared_server
    with grpc.insecure_channel(shared_server.address) as channel:
        left = wait_until_idle(GenerationServiceStub(channel))
    if left:
        pytest.fail(f"generations still wait or run after the test: {', '.join(left)}")


def wait_until_idle(stub: GenerationServiceStub) -> list[str]:
    """Wait for what is ending; returns the prompts of what is not, and cancels that."""
    unfinished = ListGenerationsRequest(states=[STATE_QUEUED, STATE_RUNNING])
    end = time.monotonic() + LEFT_SECONDS
    while left := stub.ListGenerations(unfinished).generations:
        if time.monotonic() > end:
            for generation in left:
                stub.CancelGeneration(CancelGenerationRequest(generation_id=generation.id))
            return [generation.image.prompt or generation.id for generation in left]
        time.sleep(0.02)
    return []
