"""What the chart renders runs: the real server with its configuration, its probes and its end."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.engine_pb2 import EngineState
from atelier.v1.generation_pb2 import State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.config.load import load
from atelier_server.rpc.externalscaler import externalscaler_pb2 as keda
from tests.artifacts.bucket_server import BucketServer
from tests.certificates import Authority
from tests.chart.charts import EXAMPLES, OPEN, Helm, merge, needs_helm, read_example
from tests.chart.pods import Pod
from tests.chart.test_chart_pools import POOLED
from tests.conftest import ATELIER
from tests.postgres_server import PostgresServer, postgres_server
from tests.resilience.follower import wait_until
from tests.server.calls import image_request, on_acceptance
from tests.server.conftest import install_odd

__all__ = ["postgres_server"]

pytestmark = needs_helm

RunPod = Callable[..., Pod]


@pytest.fixture
def run_pod(helm: Helm, tmp_path: Path) -> Iterator[RunPod]:
    """Makes pods for one test, from values; they are ended after it."""
    made: list[Pod] = []

    def make(values: Mapping[str, Any], **given: Any) -> Pod:  # noqa: ANN401 - fields of Pod
        pod = Pod(helm.render(merge(OPEN, values)), tmp_path / f"pod{len(made)}", **given)
        made.append(pod)
        return pod

    yield make
    for pod in made:
        pod.kill()


def create_key(path: Path) -> str:
    """A key whose hash is in the file."""
    command: list[str | Path] = [
        ATELIER,
        "keys",
        "create",
        "--file",
        path,
        "--tenant",
        "me",
        "--scope",
        "generate",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return ended.stdout.strip()


def call_http(pod: Pod, authority: Authority, headers: Mapping[str, str]) -> int:
    """The status of a call over the HTTP port, encrypted."""
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    connection = HTTPSConnection("localhost", pod.ports[8080], context=trusting)
    with closing(connection):
        body = json.dumps({"image": {"prompt": "a lighthouse"}})
        path = "/atelier.v1.GenerationService/Generate"
        connection.request("POST", path, body, {"content-type": "application/json", **headers})
        return connection.getresponse().status


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_server_loads_what_examples_configure(helm: Helm, tmp_path: Path, name: str) -> None:
    """By its own loader, with the keys of services from the environment."""
    path = tmp_path / "atelier.yaml"
    names = ("FAL_KEY", "DSN", "S3_KEY_ID", "S3_SECRET")
    (tmp_path / ".env").write_text("".join(f"{name}=a-key-of-a-test\n" for name in names))
    run: set[str] = set()
    for text in helm.render(read_example(name)).configurations.values():
        path.write_text(text)
        settings = load(path)
        assert settings.drain_seconds == 300
        assert settings.tls is not None
        run |= set(settings.engines)
    assert run == set(read_example(name)["config"]["engines"])


def test_probes_tell_a_server_that_loads_from_one_that_is_dead(
    run_pod: RunPod, tmp_path: Path
) -> None:
    """While its only engine loads it has started and lives, but is not ready: nothing kills it, nobody calls it."""
    engines = {"loading": {"type": "odd", "start": "hangs"}}
    environment = install_odd(tmp_path / "site")
    pod = run_pod({"config": {"engines": engines}}, environment=environment)
    assert not pod.probe("startupProbe")
    pod.start()
    pod.wait("startupProbe")
    assert pod.probe("livenessProbe")
    assert not pod.probe("readinessProbe")
    assert pod.run_test().returncode == 1


async def test_a_pod_that_ends_loses_nothing(run_pod: RunPod) -> None:
    """After SIGTERM what runs ends, and what waits is for the next pod; it lives, but is not ready."""
    engines = {"sketch": {"type": "sketch", "concurrency": 2, "delay_seconds": 1.5}}
    drain = {"seconds": 200, "preStopSeconds": 1}
    pod = run_pod({"config": {"engines": engines}, "drain": drain})
    pod.start()
    pod.wait("readinessProbe")
    assert pod.run_test().stdout.strip().endswith(" SERVING")
    async with aio.insecure_channel(pod.address) as channel:
        stub = GenerationServiceStub(channel)
        accepted = [await _accept(stub, number) for number in range(5)]
        ending = asyncio.create_task(asyncio.to_thread(pod.terminate))
        await asyncio.to_thread(pod.wait_until_unready)
        assert await ending == 0
    pod.start()
    pod.wait("readinessProbe")
    async with aio.insecure_channel(pod.address) as channel:
        stub = GenerationServiceStub(channel)
        for generation_id in accepted:
            request = pb.StreamProgressRequest(generation_id=generation_id)
            call = stub.StreamProgress(request)
            states = [answer.state async for answer in call]
            assert states[-1] == State.STATE_SUCCEEDED
    assert await asyncio.to_thread(pod.terminate) == 0


async def _accept(stub: Any, number: int) -> str:  # noqa: ANN401 - a stub for asyncio
    """The id of a generation that is accepted."""
    request = on_acceptance(image_request(request_id=f"number-{number}"))
    answer = await stub.Generate(request)
    generation_id: str = answer.generation.id
    return generation_id


async def test_a_pod_with_tls_and_keys_serves_callers_and_probes(
    run_pod: RunPod, tmp_path: Path
) -> None:
    """Secrets are mounted where the configuration says; probes need neither; weights are pulled before the start."""
    keys = tmp_path / "keys.json"
    key = create_key(keys)
    authority = Authority()
    pair = authority.issue()
    tls = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": authority.pem}
    values = {
        "allowInsecure": False,
        "config": {"engines": {"sketch": {"type": "sketch"}}},
        "tls": {"enabled": True, "existingSecret": "certificate"},
        "auth": {"keys": {"existingSecret": "keys"}},
        "persistence": {"models": {"enabled": True}, "cache": {"enabled": True}},
        "prepare": {"pullModels": True, "build": True},
        "http": {"enabled": True},
    }
    secrets = {"certificate": tls, "keys": {"keys.json": keys.read_bytes()}}
    pod = run_pod(values, secrets=secrets)
    pod.prepare()
    pod.start()
    pod.wait("readinessProbe")
    assert pod.run_test().returncode == 0
    async with aio.secure_channel(pod.address, authority.credentials()) as channel:
        stub = GenerationServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as refused:
            await stub.Generate(image_request())
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        metadata = (("authorization", f"Bearer {key}"),)
        answer = await stub.Generate(image_request(), metadata=metadata)
        assert answer.generation.state == State.STATE_SUCCEEDED
    statuses = [
        await asyncio.to_thread(call_http, pod, authority, headers)
        for headers in ({}, {"authorization": f"Bearer {key}"})
    ]
    assert statuses == [401, 200]
    written = yaml.safe_load(pod.path("/etc/atelier/config/atelier.yaml").read_text())
    assert Path(written["data_dir"]).is_relative_to(pod.root)


async def has_ready(stub: Any, engine: str) -> bool:  # noqa: ANN401 - a stub for asyncio
    """Whether the gateway knows a worker whose engine of that name is ready; it looks once a second."""
    answer = await stub.GetCapabilities(pb.GetCapabilitiesRequest())
    ready = EngineState.ENGINE_STATE_READY
    return any(each.name == engine and each.state == ready for each in answer.engines)


async def test_gateways_hand_over_what_workers_of_a_pool_make(
    run_pod: RunPod, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """With a real database and a real bucket: a Job prepares, the worker waits for it, and callers get images.

    A worker without the key of another pool's service starts; a gateway needs neither. Each drains when it is ended.
    """
    bucket = BucketServer(tmp_path / "buckets")
    bucket.start()
    keys = {
        "DSN": postgres_server.make_database(),
        "S3_KEY_ID": str(bucket.settings["access_key_id"]),
        "S3_SECRET": str(bucket.settings["secret_access_key"]),
    }
    named = {"access_key_id": "${S3_KEY_ID}", "secret_access_key": "${S3_SECRET}"}
    values = merge(POOLED, {"config": {"artifacts": {**bucket.settings, **named}}})
    values["drain"] = {"preStopSeconds": 1}
    values["pools"]["local"]["autoscaling"] = {"type": "keda", "targetSeconds": 30}
    try:
        worker = run_pod(values, workload=("Deployment", "-local"), environment=keys)
        worker.run(worker.release.find("Job")["spec"]["template"]["spec"]["containers"][0])
        worker.prepare()
        worker.start()
        gateway = run_pod(values, workload=("Deployment", "-gateway"), environment=keys)
        gateway.start()
        gateway.wait("readinessProbe")
        worker.wait("readinessProbe")
        assert gateway.run_test().returncode == 0
        trigger = worker.release.find("ScaledObject")["spec"]["triggers"][0]["metadata"]
        port = int(trigger.pop("scalerAddress").rpartition(":")[2])
        async with aio.insecure_channel(f"localhost:{gateway.ports[port]}") as channel:
            ask: Any = channel.unary_unary(
                "/externalscaler.ExternalScaler/GetMetricSpec",
                request_serializer=keda.ScaledObjectRef.SerializeToString,
                response_deserializer=keda.GetMetricSpecResponse.FromString,
            )
            answer = await ask(keda.ScaledObjectRef(name="local", scaler_metadata=trigger))
        assert [spec.target_size for spec in answer.metric_specs] == [30]
        async with aio.insecure_channel(gateway.address) as channel:
            stub: Any = GenerationServiceStub(channel)
            await wait_until(partial(has_ready, stub, "sketch"))
            answer = await stub.Generate(image_request(engine="sketch"))
        assert answer.generation.state == State.STATE_SUCCEEDED
        ends = [asyncio.to_thread(pod.terminate) for pod in (worker, gateway)]
        assert await asyncio.gather(*ends) == [0, 0]
    finally:
        bucket.stop()
