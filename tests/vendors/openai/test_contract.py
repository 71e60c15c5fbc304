"""OpenAI models of any and of fixed sizes, through the suites for all engines and for all remote engines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier_engines.capabilities import ImageCapabilities
from atelier_engines.conformance import EngineConformance, tasks
from atelier_engines.conformance.fake_server import respond
from atelier_engines.conformance.remote import RemoteConformance
from atelier_engines.conformance.remote_service import FakeService, collect_outputs, wait
from atelier_engines.engine import Engine
from atelier_engines.errors import EngineFailedError
from atelier_engines.task import ImageTask
from tests.vendors.openai.stand_in import StandIn


class TestAnySize(EngineConformance):
    """With the default settings."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """With a price."""
        running.reset()
        return running.engine(price={"amount": 0.04})

    @pytest.fixture
    def image_task(self, image: ImageCapabilities) -> ImageTask:
        """A small one."""
        return replace(tasks.image_task(image), width=512, height=528)


class TestFixedSizes(EngineConformance):
    """An older model, without previews."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """In JPEG."""
        running.reset()
        return running.engine(
            model="gpt-image-1.5", output_format="jpeg", partial_images=0, concurrency=1
        )

    @pytest.fixture
    def image_task(self, image: ImageCapabilities) -> ImageTask:
        """A small one, since each image is resized here."""
        return replace(tasks.image_task(image), width=512, height=520)


class TestFailures(RemoteConformance):
    """The suite for all remote engines."""

    @pytest.fixture
    def service(self, vendor: StandIn) -> FakeService:
        """See RemoteConformance.service."""
        return vendor

    def test_a_success_of_an_unknown_shape_is_uncertain(self, service: FakeService) -> None:
        """The SDK accepts every object, so it is a response without an image."""
        service.submits.add(respond(200, {"unknown": "?"}))
        with pytest.raises(EngineFailedError, match="without an image"):
            wait(collect_outputs(service))
        assert service.accepted == 0
