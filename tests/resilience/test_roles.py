"""Gateways that answer calls, and workers that run engines: processes with one database and one bucket."""

from __future__ import annotations

import asyncio
import signal
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.engine_pb2 import Engine, EngineState
from atelier.v1.generation_pb2 import State
from tests.artifacts.bucket_server import BucketServer
from tests.conftest import RunningServer, free_port, launch
from tests.postgres_server import PostgresServer, postgres_server
from tests.resilience.follower import Connect, Follower, wait_until
from tests.server.calls import Stub, image_request, on_acceptance, refusal, slow_request

__all__ = ["postgres_server"]

READY = EngineState.ENGINE_STATE_READY
LOADING = EngineState.ENGINE_STATE_LOADING


@dataclass(slots=True)
class Cluster:
    """Starts gateways and workers that share everything they need."""

    directory: Path
    shared: dict[str, object]
    servers: dict[str, RunningServer] = field(default_factory=dict)

    def start(self, name: str, role: str, **settings: object) -> RunningServer:
        """A server of that role, as on a machine of its own. Waits until it answers, and its engines are ready."""
        (self.directory / name).mkdir(exist_ok=True)
        given = {**self.shared, "role": role, **settings}
        if role == "worker":
            given["health_listen"] = f"127.0.0.1:{free_port()}"
        wait = True if role == "worker" else [""]
        server = launch(self.directory / name, wait=wait, **given)  # type: ignore[arg-type]  # settings by name
        self.servers[name] = server
        return server

    def gateway(self, name: str = "gateway") -> RunningServer:
        """A gateway; what its file says about engines is of no account, not even that keys are missing."""
        engines = {"paid": {"type": "fal", "api_key": "${NO_SUCH_KEY}"}}
        return self.start(name, "gateway", engines=engines)

    def worker(self, name: str = "worker", **engines: object) -> RunningServer:
        """A worker with these engines; with `sketch` if none is given."""
        return self.start(name, "worker", engines=engines or {"sketch": {"type": "sketch"}})


@pytest.fixture
def cluster(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[Cluster]:
    """Nothing yet but a database and a bucket."""
    bucket = BucketServer(tmp_path / "s3")
    bucket.start()
    dsn = postgres_server.make_database()
    shared: dict[str, object] = {
        "store": {"type": "postgres", "dsn": dsn, "lease_seconds": 2},
        "artifacts": bucket.settings,
        "drain_seconds": 0,
    }
    cluster = Cluster(tmp_path, shared)
    yield cluster
    for server in cluster.servers.values():
        server.kill()
    bucket.stop()


async def find_engine(stub: Stub, name: str) -> Engine | None:
    """The engine, as the gateway shows it."""
    answer = await stub.GetCapabilities(pb.GetCapabilitiesRequest())
    return next((engine for engine in answer.engines if engine.name == name), None)


async def wait_state(stub: Stub, state: EngineState.ValueType, name: str = "sketch") -> Engine:
    """The engine, once the gateway shows it in that state."""
    while True:
        engine = await find_engine(stub, name)
        if engine is not None and engine.state == state:
            return engine
        await asyncio.sleep(0.02)


async def test_a_gateway_does_what_workers_have_registered(
    cluster: Cluster, connect: Connect
) -> None:
    """It knows nothing before; then it accepts, plans, follows and answers with outputs, and loads no library.

    The slots of all workers add up; that they differ is in the log.
    """
    gateway = cluster.gateway()
    async with connect(gateway) as stub:
        assert not (await stub.GetCapabilities(pb.GetCapabilitiesRequest())).engines
        for request, reason in (
            (image_request(), "UNKNOWN_ENGINE"),
            (image_request(engine=""), "ENGINE_UNAVAILABLE"),
        ):
            refused = await refusal(stub.Generate(request))
            assert (refused.reason, "none" in refused.message) == (
                reason,
                reason == "UNKNOWN_ENGINE",
            )
        worker = cluster.worker()
        engine = await wait_state(stub, READY)
        assert engine.image.width.max > 64
        made = (await stub.Generate(image_request(engine="", inline_outputs=True))).generation
        assert made.outputs[0].data.startswith(b"\x89PNG")
        follower = Follower((await stub.Generate(on_acceptance(slow_request(0.2)))).generation.id)
        await follower.follow(stub)
        assert follower.sequences == list(range(1, len(follower.events) + 1))
        plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=image_request()))
        assert plan.accepted
        assert plan.engine == "sketch"
        await wait_until(lambda: _is_timed(stub))
        cluster.worker("more", sketch={"type": "sketch", "concurrency": 3, "price_per_image": 1.0})
        await wait_until(lambda: _has_slots(stub, 7))
    (line,) = [each for each in gateway.log_lines() if each["event"] == "workers_differ"][:1]
    assert line["fields"] == "price"
    loaded = await asyncio.to_thread(Path(f"/proc/{gateway.process.pid}/maps").read_text)
    assert not [name for name in ("torch", "onnxruntime", "transformers") if name in loaded]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*worker.address.split(":"))
    assert await asyncio.to_thread(fetch, worker, "readyz") == "ready\n"
    shown = 'atelier_workers{engine="sketch",state="ready"} 2.0'
    assert shown in await asyncio.to_thread(fetch, gateway, "metrics")


def fetch(server: RunningServer, path: str) -> str:
    """What the server says over HTTP."""
    with urllib.request.urlopen(f"http://{server.metrics_address}/{path}") as answer:
        return str(answer.read().decode())


async def _is_timed(stub: Stub) -> bool:
    """Whether the gateway knows from the worker how long such a task takes."""
    plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=image_request()))
    return plan.HasField("estimated_duration")


async def test_the_engines_of_a_lost_worker_take_nothing_new_and_keep_what_waits(
    cluster: Cluster, connect: Connect
) -> None:
    """When its lease has ended, its engine is known and not ready; another worker takes what it ran and what waits."""
    gateway = cluster.gateway()
    worker = cluster.worker()
    async with connect(gateway) as stub:
        await wait_state(stub, READY)
        requests = [on_acceptance(slow_request(1, steps=4)) for _ in range(3)]
        followers = [Follower((await stub.Generate(each)).generation.id) for each in requests]
        following = [asyncio.create_task(each.follow(stub)) for each in followers]
        worker.process.send_signal(signal.SIGSTOP)  # the fixture kills it
        gone = await wait_state(stub, LOADING)
        assert gone.state_message == "no worker runs it now"
        refused = await refusal(stub.Generate(image_request()))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.UNAVAILABLE,
            "ENGINE_UNAVAILABLE",
        )
        cluster.worker("another")
        await asyncio.gather(*following)
        for each in followers:
            assert each.last_state == State.STATE_SUCCEEDED
            assert each.sequences == list(range(1, len(each.events) + 1))


async def _has_slots(stub: Stub, count: int) -> bool:
    engine = await find_engine(stub, "sketch")
    return engine is not None and engine.load.concurrency == count


async def test_what_a_dead_worker_leaves_behind(cluster: Cluster, connect: Connect) -> None:
    """Fallbacks at another worker take it over; else it waits: no worker fails what it has no engine for."""
    gateway = cluster.gateway()
    first = {"type": "sketch", "fallbacks": ["second"], "max_loading_seconds": 0}
    cluster.worker("one", first=first, lone={"type": "sketch"})
    cluster.worker("two", second={"type": "sketch"})
    async with connect(gateway) as stub:
        for name in ("first", "lone", "second"):
            await wait_state(stub, READY, name)
        await stub.PauseEngine(pb.PauseEngineRequest(engine="lone"))
        waiting = (await stub.Generate(on_acceptance(image_request(engine="lone")))).generation.id
        cluster.servers["one"].kill()
        await wait_state(stub, EngineState.ENGINE_STATE_UNAVAILABLE, "first")
        made = (await stub.Generate(image_request(engine="first"))).generation
        assert made.engine == "second"
        found = await stub.GetGeneration(pb.GetGenerationRequest(generation_id=waiting))
        assert found.generation.state == State.STATE_QUEUED
        assert (await stub.ClearQueue(pb.ClearQueueRequest(engine="lone"))).cancelled == 1
