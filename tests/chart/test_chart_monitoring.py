"""Alerts and dashboards: what they ask for exists, Prometheus can evaluate it, and alerts come when they should."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from grpc import aio
from prometheus_client.parser import text_string_to_metric_families

from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.chart.charts import CHART
from tests.conftest import ROOT, RunningServer, StartServer, free_port
from tests.server.calls import eventually, image_request
from tests.server.test_metrics import fetch

BINARIES = ROOT / ".tools" / "prometheus" / "usr" / "bin"
ALERTS = CHART / "alerts" / "atelier.yaml"
needs_prometheus = pytest.mark.skipif(
    not BINARIES.exists(), reason="`make prometheus` unpacks Prometheus, on Debian"
)
METRIC = re.compile(r"\b(?:atelier|grpc_server)_\w+")
NEED_GPU = {
    "atelier_gpu_energy_joules_total",
    "atelier_gpu_memory_total_bytes",
    "atelier_gpu_memory_used_bytes",
    "atelier_gpu_power_watts",
    "atelier_gpu_temperature_celsius",
    "atelier_gpu_utilization_ratio",
}
"""What only a machine with NVIDIA's driver has; tests/server/test_device_metrics.py has a stand-in for it."""


def read_queries() -> Iterator[str]:
    """Every query of the dashboards and alerts, with what Grafana puts in for its variables."""
    for path in sorted((CHART / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$__rate_interval", "1m")
                yield query.replace("$namespace", ".*").replace("$job", ".*")
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


QUERIES = list(read_queries())
TRACE = "0af7651916cd43dd8448eb211c80319c"


def find_families(server: RunningServer) -> set[str]:
    """Names that samples of the server can have."""
    _, text = fetch(server, "/metrics")
    names: set[str] = set()
    for family in text_string_to_metric_families(text):
        endings = {
            "counter": ("_total",),
            "histogram": ("_bucket", "_count", "_sum"),
        }.get(family.type, ("",))
        names |= {family.name.removesuffix("_total") + ending for ending in endings}
    return names


def test_dashboards_are_up_to_date() -> None:
    """They are what the script writes."""
    command = (sys.executable, "-m", "scripts.write_dashboards", "--check")
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def test_what_dashboards_and_alerts_ask_for_exists(server: RunningServer) -> None:
    """Every metric in them is one of a running server, or needs a GPU."""
    asked = {name for query in QUERIES for name in METRIC.findall(query)}
    assert len(asked) > 40
    assert asked >= NEED_GPU
    assert asked - find_families(server) - NEED_GPU == set()


@needs_prometheus
def test_alerts_come_when_they_should(tmp_path: Path) -> None:
    """The rules are checked by promtool, and tests each alert with series that raise it and series that do not."""
    tests = Path(__file__).with_name("alerts_test.yaml").read_text()
    path = tmp_path / "alerts_test.yaml"
    path.write_text(tests.replace("RULES", str(ALERTS)))
    for command in (("check", "rules", ALERTS), ("test", "rules", path)):
        ended = subprocess.run([BINARIES / "promtool", *command], capture_output=True, text=True)  # noqa: PLW1510 - the assertion checks it
        assert ended.returncode == 0, ended.stdout + ended.stderr
    alerts = set(re.findall(r"- alert: (\w+)", ALERTS.read_text()))
    raised = {
        case["alertname"]
        for test in yaml.safe_load(tests)["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert raised == alerts


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Starts Prometheus with the alerts, for the server at an address; returns its own address."""
    started: list[subprocess.Popen[bytes]] = []

    def start(target: str) -> str:
        labels = {"namespace": "studio"}
        jobs = [
            {"job_name": "atelier", "static_configs": [{"targets": [target], "labels": labels}]}
        ]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": jobs,
        }
        (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
        address = f"127.0.0.1:{free_port()}"
        command: list[str | Path] = [
            BINARIES / "prometheus",
            f"--config.file={tmp_path / 'prometheus.yaml'}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address={address}",
            "--enable-feature=exemplar-storage",
        ]
        with (tmp_path / "prometheus.log").open("wb") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        return address

    yield start
    for process in started:
        process.kill()
        process.wait()


def query(address: str, expression: str) -> Sequence[Mapping[str, Any]]:
    """What Prometheus answers; nothing while it starts."""
    answer = read(address, "query", query=expression)
    found: Sequence[Mapping[str, Any]] = json.loads(answer)["data"]["result"] if answer else []
    return found


def read(address: str, what: str, **parameters: str) -> str:
    """What the API of Prometheus answers; nothing while it starts."""
    url = f"http://{address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(url, timeout=300) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 503:  # it reads its log
                return ""
            pytest.fail(f"{parameters}: {error.read().decode()}")
    except urllib.error.URLError:
        return ""


@needs_prometheus
async def test_prometheus_scrapes_the_server_and_evaluates_every_query(
    start_server: StartServer, prometheus: Callable[[str], str]
) -> None:
    """Every panel's query and every alert's is valid, and what work is counted arrives."""
    nobody = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    server = start_server(environment=nobody)
    address = prometheus(server.metrics_address)
    traced = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)
    async with aio.insecure_channel(server.address) as channel:
        await GenerationServiceStub(channel).Generate(image_request(), metadata=traced)
    ended = 'atelier_generations_total{namespace="studio",outcome="succeeded"} == 1'
    await eventually(lambda: bool(query(address, ended)))
    for expression in QUERIES:
        await asyncio.to_thread(query, address, expression)
    latest = [
        'sum by (version) (atelier_build_info{job="atelier"})',
        "sum by (engine) (atelier_engine_up)",
        "atelier_breaker_open",
        "atelier_queue_age_seconds",
        'atelier_attempts_total{outcome="succeeded"}',
    ]
    for expression in latest:
        assert await asyncio.to_thread(query, address, expression), expression
    assert TRACE in await asyncio.to_thread(
        read,
        address,
        "query_exemplars",
        query="atelier_generation_seconds_bucket",
        start="0",
        end="9e9",
    )
