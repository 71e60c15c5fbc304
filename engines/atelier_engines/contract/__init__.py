"""The suite that every engine is put through, for engines of any package. Needs pytest.

    import pytest
    from atelier_engines.contract import EngineContract

    class TestAcme(EngineContract):
        @pytest.fixture(scope="class")
        @classmethod
        def engine(cls) -> AcmeEngine:
            return AcmeEngine(AcmeConfig())

Every test reads the engine's capabilities and holds it to them; what it does not claim is skipped.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "atelier_engines.contract.closing",
    "atelier_engines.contract.fixtures",
    "atelier_engines.contract.life",
    "atelier_engines.contract.pictures",
    "atelier_engines.contract.refusals",
    "atelier_engines.contract.sounds",
    "atelier_engines.contract.work",
)

from atelier_engines.contract.closing import ClosingContract  # noqa: E402 (after the register)
from atelier_engines.contract.life import LifeContract  # noqa: E402
from atelier_engines.contract.pictures import PictureContract  # noqa: E402
from atelier_engines.contract.refusals import RefusalContract  # noqa: E402
from atelier_engines.contract.sounds import SoundContract  # noqa: E402
from atelier_engines.contract.work import WorkContract  # noqa: E402

__all__ = ["EngineContract"]


class EngineContract(
    LifeContract, RefusalContract, WorkContract, PictureContract, SoundContract, ClosingContract
):
    """Everything that is asked of an engine; override `engine`, at will `image_task` and others."""
