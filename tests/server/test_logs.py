"""Logs: one event a line, with a stable key and fields."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import ModuleType

import pytest
from grpc import aio

import atelier_engines
import atelier_server
from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.artifact_pb2 import UploadHeader
from atelier.v1.generation_pb2 import State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import MediaSource
from tests.conftest import RunningServer, StartServer
from tests.server.calls import Stub, eventually, image_request, refusal


async def test_lines_are_json_and_name_their_generation(server: RunningServer, stub: Stub) -> None:
    """From start to end; none quotes the prompt, which is the caller's."""
    made = (await stub.Generate(image_request("a secret lighthouse"))).generation
    lines = [line for line in server.log_lines() if line.get("generation") == made.id]
    assert [line["event"] for line in lines] == ["generation_started", "generation_succeeded"]
    told = {name: lines[1][name] for name in ("outcome", "steps", "width", "height", "images")}
    assert told == {"outcome": "succeeded", "steps": 4, "width": 64, "height": 64, "images": 1}
    assert lines[1]["seconds"] >= 0
    for line in lines:
        assert (line["level"], line["attempt"], line["engine"]) == ("info", 1, "sketch")
        assert (line["tenant"], line["request_id"]) == ("anonymous", made.request_id)
        assert line["logger"].startswith("atelier_server.")
        assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None
    text = server.log.read_text()
    assert "secret" not in text
    assert all(line.startswith("{") for line in text.splitlines())


async def test_failures_are_logged_with_their_reason(
    workshop: RunningServer, workshop_stub: Stub
) -> None:
    """As warnings, under the generation's id, with what was to be done; the record has the task."""
    refused = await refusal(workshop_stub.Generate(image_request("memory", engine="odd")))
    generation = refused.metadata["generation_id"]
    lines = [line for line in workshop.log_lines() if line.get("generation") == generation]
    assert [line["level"] for line in lines] == ["info", "warning"]
    assert (lines[-1]["event"], lines[-1]["reason"]) == ("generation_failed", "OUT_OF_MEMORY")
    assert (lines[-1]["outcome"], lines[-1]["width"], lines[-1]["images"]) == ("failed", 64, 1)
    asked = pb.GetGenerationRequest(generation_id=generation)
    record = (await workshop_stub.GetGeneration(asked)).generation
    assert (record.state, record.failure.reason) == (State.STATE_FAILED, "OUT_OF_MEMORY")
    assert record.image == image_request("memory").image


def test_the_log_says_where_it_listens_and_how_it_ends(start_server: StartServer) -> None:
    """And with the level `warning` only what is amiss."""
    server = start_server()
    assert server.terminate() == 0
    lines = server.log_lines()
    events = [line["event"] for line in lines]
    started = lines[events.index("server_started")]
    assert (started["address"], started["metrics"]) == (server.address, server.metrics_address)
    assert events[-1] == "server_stopped"
    quiet = start_server(log={"level": "warning"}, data_dir=str(server.data.parent / "quiet"))
    assert quiet.terminate() == 0
    assert server.log_lines()[len(events) :] == []


def _log_calls(package: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a method of `_log` in the package, with its place."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "_log"
            ):
                yield f"{path.name}:{node.lineno}", node


@pytest.mark.parametrize("package", [atelier_engines, atelier_server])
def test_every_event_has_a_constant_key_and_its_data_in_fields(package: ModuleType) -> None:
    """The form that `atelier_server.logs` describes."""
    calls = list(_log_calls(Path(str(package.__file__)).parent))
    assert calls
    for place, call in calls:
        (key,) = call.args
        assert isinstance(key, ast.Constant), place
        assert re.fullmatch("[a-z]+(_[a-z]+)+", str(key.value)), place
        assert {keyword.arg for keyword in call.keywords} <= {"extra", "exc_info"}, place


async def test_libraries_log_no_prompt_at_level_debug(start_server: StartServer) -> None:
    """The image has the prompt in its metadata, which Pillow logs when it reads it."""
    server = start_server(log={"level": "debug"})
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        made = (await stub.Generate(image_request("a secret lighthouse"))).generation
        source = MediaSource(artifact_id=made.outputs[0].artifact.id)
        task = {"init_image": source, "strength": 0.5}
        await stub.Generate(image_request("a secret lighthouse", task=task))
    assert server.terminate() == 0
    assert "secret" not in server.log.read_text()
    loggers = {line["logger"].partition(".")[0] for line in server.log_lines()}
    assert loggers == {"atelier_server"}


async def test_every_line_of_a_call_names_its_caller_and_its_request(
    start_server: StartServer,
) -> None:
    """Also its generation, once it has one; the fields come with the call, whoever writes the line."""
    server = start_server(log={"level": "debug"})
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        made = (await stub.Generate(image_request(request_id="mine"))).generation
        await refusal(stub.GetGeneration(pb.GetGenerationRequest(generation_id="0" * 26)))
    assert server.terminate() == 0
    lines = [
        line
        for line in server.log_lines()
        if line["event"] == "call_finished" and line["service"] == "atelier.v1.GenerationService"
    ]
    assert [
        (line["method"], line["tenant"], line["request_id"], line.get("generation"), line["code"])
        for line in lines
    ] == [
        ("Generate", "anonymous", "mine", made.id, "OK"),
        ("GetGeneration", "anonymous", "", None, "NOT_FOUND"),
    ]


async def test_a_caller_that_hangs_up_in_a_download_is_no_error(start_server: StartServer) -> None:
    """The logger of gRPC has it as an ERROR with a traceback, since a message could not be sent."""
    server = start_server(log={"level": "debug"})
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        artifact = (await stub.UploadArtifact(_parts(64 * 2**20))).artifact
    request = pb.DownloadArtifactRequest(artifact_id=artifact.id)
    for _ in range(10):
        async with aio.insecure_channel(server.address) as channel:
            download = GenerationServiceStub(channel).DownloadArtifact(request)
            await download.read()
            await download.read()
            await asyncio.sleep(0.1)  # the server waits until it may send more
    await eventually(lambda: _count(server, method="DownloadArtifact", code="CANCELLED") == 10)
    assert server.terminate() == 0
    assert _count(server, level="error") == 0


def _parts(size: int) -> Iterator[pb.UploadArtifactRequest]:
    """An upload of so many bytes."""
    yield pb.UploadArtifactRequest(header=UploadHeader(media_type="audio/x-raw"))
    for _ in range(size // 2**19):
        yield pb.UploadArtifactRequest(chunk=bytes(2**19))


def _count(server: RunningServer, **fields: object) -> int:
    """How many lines of the log have these fields."""
    return sum(fields.items() <= line.items() for line in server.log_lines())


def test_the_console_form_shows_the_same_fields(start_server: StartServer) -> None:
    """Readable: key, logger and fields on one line."""
    server = start_server(log={"format": "console"})
    assert server.terminate() == 0
    line = next(line for line in server.log.read_text().splitlines() if "server_started" in line)
    assert f"address={server.address}" in line
