"""Who did what to which generation, in a file of its own; nothing secret is anywhere that can be read."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.certificates import Authority
from tests.conftest import StartServer
from tests.server.calls import eventually, image_request, refusal
from tests.server.test_auth import bearer, make_key
from tests.server.test_metrics import fetch

PROMPT = "a canary in the prompt"


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of the file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_the_audit_log_says_who_did_what(start_server: StartServer, tmp_path: Path) -> None:
    """Of calls that act or are refused; with no content and no key. Nothing secret is in any output of the server."""
    keys, audit = tmp_path / "keys-canary.json", tmp_path / "audit.jsonl"
    secret = make_key(keys, "generate,read,cancel", tenant="red")
    authority = Authority()
    tls = authority.issue().write(tmp_path / "tls-canary")
    server = start_server(
        auth={"keys": {"file": str(keys)}}, tls=tls, log={"audit": str(audit), "level": "debug"}
    )
    outputs: list[str] = []
    async with aio.secure_channel(server.address, authority.credentials()) as channel:
        stub = GenerationServiceStub(channel)
        red = bearer(secret)
        made = await stub.Generate(image_request(PROMPT, request_id="mine"), metadata=red)
        name = made.generation.id
        await stub.CancelGeneration(pb.CancelGenerationRequest(generation_id=name), metadata=red)
        outputs.append(str(await stub.Health(pb.HealthRequest(), metadata=red)))
        capabilities = await stub.GetCapabilities(pb.GetCapabilitiesRequest(), metadata=red)
        outputs.append(str(capabilities))
        pause = pb.PauseEngineRequest(engine="sketch")
        missing = pb.GetGenerationRequest(generation_id="0" * 26)
        outputs += [
            str(await refusal(call))
            for call in (
                stub.PauseEngine(pause, metadata=red),
                stub.Health(pb.HealthRequest(), metadata=bearer(secret[:-1])),
                stub.GetGeneration(missing, metadata=red),
            )
        ]
    await eventually(lambda: len(lines_of(audit)) == 5)
    lines = lines_of(audit)
    told = [(line["method"], line["target"], line["tenant"], line["code"]) for line in lines]
    assert told[:2] == [
        ("Generate", name, "red", "OK"),
        ("CancelGeneration", name, "red", "OK"),
    ]
    assert set(told[2:]) == {  # sent side by side
        ("PauseEngine", "sketch", "red", "PERMISSION_DENIED"),
        ("Health", "", "", "UNAUTHENTICATED"),
        ("GetGeneration", "0" * 26, "red", "NOT_FOUND"),
    }
    assert lines[0]["request_id"] == "mine"
    assert lines[0]["subject"] == secret.partition(".")[0]
    assert lines[0]["peer"].startswith("ipv4:127.0.0.1:")
    assert stat.S_IMODE(audit.stat().st_mode) == 0o600
    outputs += [server.log.read_text(), audit.read_text(), fetch(server, "/metrics")[1]]
    canaries = [secret.partition(".")[2], PROMPT, "PRIVATE KEY"]
    paths = ["keys-canary", "tls-canary", str(tmp_path)]
    for canary in canaries:
        assert not any(canary in output for output in outputs), canary
    for path in paths:
        assert not any(path in output for output in outputs[:-3]), path


async def test_a_file_that_was_moved_away_is_made_again(
    start_server: StartServer, tmp_path: Path
) -> None:
    """As logrotate does."""
    audit = tmp_path / "audit.jsonl"
    server = start_server(log={"audit": str(audit)})
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        await stub.Generate(image_request())
        await eventually(lambda: len(lines_of(audit)) == 1)
        move(audit, tmp_path / "old.jsonl")
        await stub.Generate(image_request())
        await eventually(audit.exists)
    assert lines_of(audit)[0]["tenant"] == "anonymous"


def move(path: Path, target: Path) -> None:
    """Give the file another name."""
    path.rename(target)


def test_a_file_that_cannot_be_written_is_named(start_server: StartServer, tmp_path: Path) -> None:
    """Before anything is served."""
    server = start_server(log={"audit": str(tmp_path / "missing" / "audit.jsonl")}, wait=False)
    assert server.process.wait(300) == 1
    assert "missing/audit.jsonl" in server.log.read_text()
