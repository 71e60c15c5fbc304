"""Fixtures of the suite for engines of remote services: the fake service, or a skip where it lacks something."""

from __future__ import annotations

import pytest

from atelier_engines.conformance.fake_server import Handler
from atelier_engines.conformance.remote_service import FakeService


class RemoteFixtures:
    """Fixtures of all parts of the suite; `service` is the one to override."""

    @pytest.fixture
    def service(self) -> FakeService:
        """The fake service, reset."""
        raise NotImplementedError("override the fixture `service`")

    @pytest.fixture
    def resumable(self, service: FakeService) -> FakeService:
        """The service; skips those whose jobs cannot be found again after a restart."""
        if not service.resumable:
            pytest.skip("its jobs cannot be found again")
        return service

    @pytest.fixture
    def cancellable(self, service: FakeService) -> FakeService:
        """The service; skips those that cannot cancel jobs."""
        if not service.cancellable:
            pytest.skip("its jobs cannot be cancelled")
        return service

    @pytest.fixture
    def downloadable(self, service: FakeService) -> FakeService:
        """The service; skips those whose results are not downloaded."""
        if not service.downloadable:
            pytest.skip("its results are not downloaded")
        return service

    @pytest.fixture
    def running_job(self, service: FakeService) -> Handler:
        """Poll response for a running job; skips services whose jobs are not running."""
        if service.running is None:
            pytest.skip("its jobs are not running")
        return service.running
