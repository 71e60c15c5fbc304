"""No API key can be read in the text of a configuration."""

from __future__ import annotations

import pytest

from atelier_engines.vendors.bfl.config import BflConfig
from atelier_engines.vendors.config import AccountConfig
from atelier_engines.vendors.fal.config import FalConfig
from atelier_engines.vendors.ideogram.config import IdeogramConfig
from atelier_engines.vendors.openai.config import OpenaiConfig
from atelier_engines.vendors.replicate.config import ReplicateConfig
from atelier_engines.vendors.runpod.config import RunpodConfig

_KEY = "an-api-key-of-the-tests"


@pytest.mark.parametrize(
    ("config", "required"),
    [
        (BflConfig, {}),
        (FalConfig, {}),
        (IdeogramConfig, {}),
        (OpenaiConfig, {}),
        (ReplicateConfig, {"model": "acme/model"}),
        (RunpodConfig, {"endpoint": "abc123xyz"}),
    ],
)
def test_the_key_shows_nowhere(config: type[AccountConfig], required: dict[str, str]) -> None:
    """Neither in its repr nor in its dump."""
    made = config.model_validate({"api_key": _KEY, **required})
    assert made.api_key.get_secret_value() == _KEY
    assert _KEY not in repr(made)
    assert _KEY not in str(made.model_dump())
