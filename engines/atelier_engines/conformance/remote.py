"""The suite for engines of remote services: what is paid, and what becomes of every failure of the service.

    class TestFailures(RemoteConformance):
        @pytest.fixture
        def service(self, acme: FakeAcme) -> FakeService:
            return acme

`FakeAcme` is a `FakeService` that plays the service. What the service does not have (polling, cancellation, downloads)
is skipped. Needs pytest and aiohttp.
"""

from __future__ import annotations

from atelier_engines.conformance.remote_jobs import (
    CancelConformance,
    DownloadConformance,
    KeepConformance,
    PollConformance,
)
from atelier_engines.conformance.remote_leaving import LeaveConformance
from atelier_engines.conformance.remote_submission import RestartConformance, SubmitConformance

__all__ = [
    "CancelConformance",
    "DownloadConformance",
    "KeepConformance",
    "LeaveConformance",
    "PollConformance",
    "RemoteConformance",
    "RestartConformance",
    "SubmitConformance",
]


class RemoteConformance(
    SubmitConformance,
    RestartConformance,
    PollConformance,
    CancelConformance,
    KeepConformance,
    LeaveConformance,
    DownloadConformance,
):
    """Everything that is asked of an engine of a remote service; override the fixture `service`."""
