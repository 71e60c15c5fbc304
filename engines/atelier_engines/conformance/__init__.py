"""The test suite for engines of any package. Needs pytest.

    import pytest
    from atelier_engines.conformance import EngineConformance

    class TestAcme(EngineConformance):
        @pytest.fixture(scope="class")
        @classmethod
        def engine(cls) -> AcmeEngine:
            return AcmeEngine(AcmeConfig())

Every test reads the engine's capabilities and tests what they claim; the rest is skipped.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "atelier_engines.conformance.cancellation",
    "atelier_engines.conformance.fixtures",
    "atelier_engines.conformance.lifecycle",
    "atelier_engines.conformance.images",
    "atelier_engines.conformance.rejection",
    "atelier_engines.conformance.remote_jobs",
    "atelier_engines.conformance.remote_leaving",
    "atelier_engines.conformance.remote_submission",
    "atelier_engines.conformance.audio",
    "atelier_engines.conformance.output",
)

from atelier_engines.conformance.audio import AudioConformance  # noqa: E402 (after the asserts in them are set to be rewritten)
from atelier_engines.conformance.cancellation import CancellationConformance  # noqa: E402 (after the register)
from atelier_engines.conformance.images import ImageConformance  # noqa: E402 (after the asserts in them are set to be rewritten)
from atelier_engines.conformance.lifecycle import LifecycleConformance  # noqa: E402 (after the asserts in them are set to be rewritten)
from atelier_engines.conformance.output import OutputConformance  # noqa: E402 (after the asserts in them are set to be rewritten)
from atelier_engines.conformance.rejection import RejectionConformance  # noqa: E402 (after the asserts in them are set to be rewritten)

__all__ = ["EngineConformance"]


class EngineConformance(
    LifecycleConformance,
    RejectionConformance,
    OutputConformance,
    ImageConformance,
    AudioConformance,
    CancellationConformance,
):
    """All tests of an engine; override the fixture `engine`, and optionally `image_task` and others."""
