"""Every client finds out the same about one real server: the cases of clients/conformance."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import ImageTask
from tests.certificates import Authority
from tests.conftest import ROOT, RunningServer, launch
from tests.cutting_proxy import CuttingProxy, run_proxy
from tests.server.test_auth import make_key

pytestmark = pytest.mark.clients

CASES: list[dict[str, Any]] = yaml.safe_load(
    (ROOT / "clients" / "conformance" / "cases.yaml").read_text()
)
RUNNERS = {
    "typescript": ("node", "clients/typescript/dist/conformance.js"),
}
ENGINES = {
    "sketch": {"type": "sketch", "concurrency": 4, "breaker": {"failure_threshold": 1000}},
    "large": {"type": "sketch", "output_bytes": 5 * 2**20},
    "paused": {"type": "sketch", "queue_limit": 1},
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The servers of the cases, as the runners are told of them."""
    folder = tmp_path_factory.mktemp("servers")
    authority = Authority()
    token = make_key(folder / "keys.json")
    auth = {"keys": {"file": str(folder / "keys.json")}}
    with ExitStack() as stack:

        def start(name: str, **settings: Any) -> RunningServer:  # noqa: ANN401 (any)
            (folder / name).mkdir()
            running = launch(folder / name, engines=ENGINES, **settings)
            stack.callback(running.kill)
            return running

        plain = start("plain", limits={"max_inline_bytes": 8 * 2**20})
        guarded = start("guarded", auth=auth)
        tls = start("tls", tls=authority.issue().write(folder))
        yield {
            "plain": {"address": f"http://{plain.address}"},
            "guarded": {"address": f"http://{guarded.address}", "token": token},
            "tls": {"address": f"https://{tls.address}", "ca": authority.pem.decode()},
        }


@pytest.fixture
async def proxy(servers: dict[str, Any]) -> AsyncIterator[CuttingProxy]:
    """Cuts its connections once, while a generation with the prompt `cut` runs; one waits for the paused engine."""
    address = servers["plain"]["address"].removeprefix("http://")
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(aio.insecure_channel(address))
        stub = GenerationServiceStub(channel)
        await stub.PauseEngine(pb.PauseEngineRequest(engine="paused"))
        await stub.Generate(
            pb.GenerateRequest(
                engine="paused",
                image=ImageTask(prompt="x"),
                response_mode=pb.RESPONSE_MODE_ON_ACCEPTANCE,
                request_id="waits",
            )
        )
        running = await stack.enter_async_context(run_proxy(address))
        cutting = asyncio.create_task(_cut(stub, running))
        yield running
        cutting.cancel()
        await stub.ClearQueue(pb.ClearQueueRequest(engine="paused"))


async def _cut(stub: Any, proxy: CuttingProxy) -> None:  # noqa: ANN401 (a stub)
    while True:
        listed = await stub.ListGenerations(pb.ListGenerationsRequest(page_size=10))
        if any(
            one.state == State.STATE_RUNNING and one.image.prompt == "cut"
            for one in listed.generations
        ):
            proxy.cut()
            return


@pytest.mark.parametrize("language", RUNNERS)
async def test_a_client_meets_every_case(
    language: str, servers: dict[str, Any], proxy: CuttingProxy, tmp_path: Path
) -> None:
    """All of them; what is wrong is shown by the name of the case."""
    program = ROOT / RUNNERS[language][-1]
    if not program.exists():
        pytest.skip(f"the client in {language} is not built")
    told = {**servers, "cut": {"address": f"http://{proxy.address}"}}
    file = tmp_path / "cases.json"
    file.write_text(json.dumps({"servers": told, "cases": CASES}))
    ran = await asyncio.to_thread(run, [*RUNNERS[language][:-1], str(program), str(file)])
    found = {line["name"]: line["wrong"] for line in map(json.loads, ran.stdout.splitlines())}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}, ran.stderr
    assert list(found) == [case["name"] for case in CASES], ran.stderr


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """What a runner has printed."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_cases_have_names_of_their_own() -> None:
    """There are at least thirty."""
    assert len({case["name"] for case in CASES}) == len(CASES) >= 30
