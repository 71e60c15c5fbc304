"""Keys of earlier versions are refused with the name of the new key."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from atelier_engines.config import Section
from atelier_engines.vendors.comfy_config import WorkflowSetConfig
from atelier_engines.vendors.comfyui.config import ComfyuiConfig


@pytest.mark.parametrize(
    ("config", "old", "new"),
    [
        (ComfyuiConfig, "customise", "overrides"),
        (ComfyuiConfig, "previews", "preview_method"),
        (ComfyuiConfig, "request_seconds", "response_timeout_seconds"),
        (ComfyuiConfig, "deadline_seconds", "timeout_seconds"),
        (WorkflowSetConfig, "customise", "overrides"),
    ],
)
def test_a_renamed_key_is_refused_with_its_new_name(
    config: type[Section], old: str, new: str
) -> None:
    """Keys of base classes too."""
    with pytest.raises(ValidationError, match=f"{old} is now {new}"):
        config.model_validate({old: 1})
    assert new in config.model_fields
