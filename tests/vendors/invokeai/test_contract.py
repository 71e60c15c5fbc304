"""The engine through the suite for all engines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier_engines.capabilities import ImageCapabilities, ImageFeature
from atelier_engines.conformance import EngineConformance
from atelier_engines.conformance.fixtures import EngineUnderTest
from atelier_engines.engine import Engine
from atelier_engines.event import Output, Step
from atelier_engines.task import ImageTask
from atelier_engines.vendors.invokeai.config import InvokeAiConfig
from atelier_engines.vendors.invokeai.engine import InvokeAiEngine
from tests.vendors.invokeai.stand_in import EMAIL, PASSWORD, SUB_PATH, StandIn

_BY_EVENTS = {"poll_seconds": 2.0}  # no poll overtakes the events of steps and previews
_SMALL = {"width": 64, "height": 64, "concurrency": 3}


class TestPlain(EngineConformance):
    """On a regular server."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """With ControlNets for two control types."""
        running.reset()
        controlnets = {"canny": "canny-xl", "depth": "depth-xl"}
        return running.engine(controlnets=controlnets, **_BY_EVENTS, **_SMALL)


class TestWithUsers(EngineConformance):
    """Behind a password, under a path, with a board and a price."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """Without ControlNets."""
        running.reset()
        running.users = True
        return running.engine(
            base_url=running.api + SUB_PATH,
            email=EMAIL,
            password=PASSWORD,
            board="atelier",
            price={"amount": 0.001},
            **_BY_EVENTS,
            **_SMALL,
        )


class TestWithoutEvents(EngineConformance):
    """By polling alone: the server refuses the socket."""

    @pytest.fixture(scope="class")
    @classmethod
    def engine(cls, running: StandIn) -> Engine:
        """Polls often, and retries the socket once a second."""
        running.reset()
        running.refuses_sockets = True
        settings = {"base_url": running.api, "poll_seconds": 0.002, **_SMALL}
        return InvokeAiEngine(InvokeAiConfig.model_validate(settings))

    def test_previews_are_sent_on_request_and_are_small(
        self, subject: EngineUnderTest, image: ImageCapabilities, image_task: ImageTask
    ) -> None:
        """None arrive, because only events have them; the image arrives all the same."""
        assert ImageFeature.PREVIEW in image.features
        events = subject.events(replace(image_task, preview_interval=1))
        assert all(event.preview is None for event in events if isinstance(event, Step))
        assert isinstance(events[-1], Output)
