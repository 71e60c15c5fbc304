"""Logs: one JSON object a line, about the generation that it names."""

from __future__ import annotations

from datetime import datetime

from tests.conftest import RunningServer, StartServer
from tests.server.calls import Stub, picture, refusal


async def test_lines_are_json_and_name_their_generation(server: RunningServer, stub: Stub) -> None:
    """From the taking up to the end; none quotes the prompt, which is the caller's."""
    made = (await stub.Generate(picture("a secret lighthouse"))).generation
    lines = [line for line in server.log_lines() if line.get("generation") == made.id]
    assert [line["event"] for line in lines] == ["taken up", "succeeded"]
    for line in lines:
        assert (line["level"], line["attempt"]) == ("info", 1)
        assert line["logger"].startswith("atelier_server.")
        assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None
    text = server.log.read_text()
    assert "secret" not in text
    assert all(line.startswith("{") for line in text.splitlines())


async def test_failures_are_logged_with_their_reason(
    workshop: RunningServer, workshop_stub: Stub
) -> None:
    """As warnings, under the generation's id."""
    refused = await refusal(workshop_stub.Generate(picture("memory", engine="odd")))
    generation = refused.metadata["generation_id"]
    lines = [line for line in workshop.log_lines() if line.get("generation") == generation]
    assert [line["level"] for line in lines] == ["info", "warning"]
    assert "OUT_OF_MEMORY" in lines[-1]["event"]


def test_the_log_says_where_it_listens_and_how_it_ends(start_server: StartServer) -> None:
    """And with the level `warning` only what is amiss."""
    server = start_server()
    assert server.terminate() == 0
    events = [line["event"] for line in server.log_lines()]
    assert any(server.address in event and server.metrics_address in event for event in events)
    assert events[-1] == "stopped"
    quiet = start_server(log={"level": "warning"}, data_dir=str(server.data.parent / "quiet"))
    assert quiet.terminate() == 0
    assert server.log_lines()[len(events) :] == []
