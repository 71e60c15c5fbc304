"""Runs the pod that the chart renders as a kubelet would: its mounts, its command, its probes, its end."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.chart.charts import Release
from tests.conftest import ATELIER, START_SECONDS, free_port

SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass(slots=True)
class Pod:
    """The server's pod on this machine: paths in the container lie below `root`, and its ports are free ones."""

    release: Release
    root: Path
    secrets: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    """Files of secrets by their names."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the machine, in addition to those of the container."""
    ports: dict[int, int] = field(default_factory=dict)
    """The port here of each port of the container."""
    workload: tuple[str, str] = ("StatefulSet", "")
    """Kind of what makes it, and the end of its name."""
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        """Make what is mounted."""
        for port in self.container["ports"]:
            self.ports[port["containerPort"]] = free_port()
        volumes = {volume["name"]: volume for volume in self.spec["volumes"]}
        for mount in self.container["volumeMounts"]:
            folder = self.path(mount["mountPath"])
            folder.mkdir(parents=True)
            for name, content in self._read_files(volumes[mount["name"]]).items():
                (folder / name).write_bytes(content)

    @property
    def spec(self) -> Mapping[str, Any]:
        """Its specification."""
        spec: Mapping[str, Any] = self.release.find(*self.workload)["spec"]["template"]["spec"]
        return spec

    @property
    def container(self) -> Mapping[str, Any]:
        """Its container, which serves."""
        container: Mapping[str, Any] = self.spec["containers"][0]
        return container

    def path(self, inside: str) -> Path:
        """Where a path of the container lies."""
        return self.root / inside.lstrip("/")

    @property
    def address(self) -> str:
        """Where it serves gRPC."""
        return f"localhost:{self.ports[50051]}"

    @property
    def log(self) -> Path:
        """What it has written to standard error."""
        return self.root / "log"

    def start(self) -> None:
        """Start the server's container."""
        with self.log.open("ab") as log:
            command = self._translate(self.container["command"])
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def prepare(self) -> None:
        """Run the containers that prepare the start, one after the other.

        Raises:
            CalledProcessError: one of them fails.
        """
        for container in self.spec.get("initContainers", []):
            self.run(container)

    def run(self, container: Mapping[str, Any]) -> None:
        """Run a container to its end, with the mounts of this pod.

        Raises:
            CalledProcessError: it fails.
        """
        command = self._translate(container["command"])
        subprocess.run(command, check=True, capture_output=True, text=True)

    def probe(self, kind: str) -> bool:
        """Whether the probe (startupProbe, livenessProbe, readinessProbe) succeeds now."""
        probe = self.container[kind]
        target = f"127.0.0.1:{self.ports[probe['grpc']['port']]}"
        with grpc.insecure_channel(target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service=probe["grpc"]["service"])
            try:
                answer = stub.Check(request, timeout=probe["timeoutSeconds"])  # type: ignore[attr-defined]  # grpc-health-checking's types lack the call
            except grpc.RpcError:
                return False
        return bool(answer.status == SERVING)

    def wait(self, kind: str) -> None:
        """Wait until the probe succeeds."""
        end = time.monotonic() + START_SECONDS
        while not self.probe(kind):
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < end, self.log.read_text()[-3000:]
            time.sleep(0.05)

    def wait_until_unready(self) -> None:
        """Wait until the readiness probe fails; it lives on, or has ended well."""
        assert self.process is not None
        while self.probe("readinessProbe"):
            time.sleep(0.05)
        assert self.probe("livenessProbe") or self.process.wait() == 0

    def terminate(self) -> int:
        """End it as a kubelet does: preStop, SIGTERM, and SIGKILL after the grace period; returns the exit status."""
        assert self.process is not None
        began = time.monotonic()
        time.sleep(self.container["lifecycle"]["preStop"]["sleep"]["seconds"])
        self.process.terminate()
        grace = self.spec["terminationGracePeriodSeconds"]
        try:
            return self.process.wait(grace - (time.monotonic() - began))
        finally:
            self.kill()

    def kill(self) -> None:
        """End it if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def run_test(self) -> subprocess.CompletedProcess[str]:
        """Run the pod of `helm test`, with the address of this one."""
        test = self.release.find("Pod", "-test")["spec"]["containers"][0]
        python, *options, address = test["command"]
        assert python == "python"
        target = f"127.0.0.1:{self.ports[int(address.rpartition(':')[2])]}"
        return subprocess.run(
            [sys.executable, *options, target], capture_output=True, text=True, check=False
        )

    def _translate(self, command: Sequence[str]) -> Sequence[str | Path]:
        """The command with paths and variables of this machine."""
        given = {
            variable["name"]: variable["value"]
            for variable in self.container["env"]
            if "value" in variable
        }
        variables = {**given, "HOME": str(self.path(given["HOME"])), **self.environment}
        settings = [f"{name}={value}" for name, value in variables.items()]
        search = f"PATH={ATELIER.parent}:/usr/bin:/bin"
        words = [self._move(word) for word in command]
        return ["/usr/bin/env", *settings, search, *words]

    def _read_files(self, volume: Mapping[str, Any]) -> Mapping[str, bytes]:
        """What a volume has in the beginning."""
        match volume:
            case {"configMap": {"name": name}}:
                texts: Mapping[str, str] = self.release.find("ConfigMap", name)["data"]
                return {file: self._move(text).encode() for file, text in texts.items()}
            case {"secret": {"secretName": name}}:
                return self.secrets[name]
            case _:
                return {}

    def _move(self, text: str) -> str:
        """The text with paths below `root`, and ports of this machine."""
        paths = "|".join(mount["mountPath"] for mount in self.container["volumeMounts"])
        text = re.sub(
            rf"(?<![\w./])({paths})(?=[/\s]|$)", lambda found: str(self.path(found[0])), text
        )
        for inside, here in self.ports.items():
            text = text.replace(f"0.0.0.0:{inside}", f"127.0.0.1:{here}")
        return text
