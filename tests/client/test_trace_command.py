"""`atelier trace`: a waterfall of queue, attempts and stages."""

from __future__ import annotations

import json

import pytest

from atelier_client import AsyncClient
from atelier_client.cli.trace import Interval, draw_waterfall
from tests.client.atelier_command import atelier
from tests.conftest import RunningServer


async def test_a_generation_is_shown_as_a_waterfall(server: RunningServer) -> None:
    """The queue, the attempt with its engine and outcome, and its stages, whose times are within it."""
    async with AsyncClient(server.address) as client:
        made = await client.generate("a lighthouse", width=64, height=64)
    shown = await atelier("trace", made.id, "--server", server.address)
    names = [line.split("█")[0].strip() for line in shown.out.splitlines()]
    assert names[:3] == ["queue", "attempt 1", "prepare"]
    assert {"draw", "encode"} <= set(names)
    assert "sketch, succeeded" in shown.out
    told = await atelier("trace", made.id, "--json", "--server", server.address)
    intervals = json.loads(told.out)["intervals"]
    attempt = next(each for each in intervals if each["name"] == "attempt 1")
    stages = sum(each["seconds"] for each in intervals if each["name"].startswith("  "))
    assert stages <= attempt["seconds"] + 0.01


@pytest.mark.parametrize("total", [0.0, 1e-9, 1.0, 1e6])
def test_bars_stay_within_their_columns(total: float) -> None:
    """However short or long it took, and where a stage ends after all else by rounding."""
    intervals = [
        Interval(name="queue", start=0.0, seconds=total / 2),
        Interval(name="attempt 1", start=total / 2, seconds=total / 2, note="tiny, failed"),
        Interval(name="  a-stage-with-a-long-name", start=total, seconds=0.0),
    ]
    lines = list(draw_waterfall(intervals))
    assert {line.rindex(" s") - len(line[:47].rstrip()) >= 0 for line in lines} == {True}
    assert all(line[47:].count("█") == 0 and "█" in line[:47] for line in lines)
