"""Keys of earlier versions are refused with the name of the new key."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from atelier_engines.config import Section
from atelier_engines.vendors.bfl.config import BflConfig
from atelier_engines.vendors.comfy_config import WorkflowSetConfig
from atelier_engines.vendors.comfyui.config import ComfyuiConfig
from atelier_engines.vendors.fal.config import FalConfig
from atelier_engines.vendors.ideogram.config import IdeogramConfig
from atelier_engines.vendors.invokeai.config import InvokeAiConfig
from atelier_engines.vendors.openai.config import OpenaiConfig
from atelier_engines.vendors.runpod.config import RunpodConfig
from atelier_engines.vendors.vastai.config import VastaiConfig


@pytest.mark.parametrize(
    ("config", "old", "new"),
    [
        (BflConfig, "deadline_seconds", "timeout_seconds"),
        (FalConfig, "deadline_seconds", "timeout_seconds"),
        (FalConfig, "pictures", "image_transfer"),
        (FalConfig, "max_count", "max_images"),
        (ComfyuiConfig, "max_count", "max_images"),
        (RunpodConfig, "deadline_seconds", "timeout_seconds"),
        (RunpodConfig, "customise", "overrides"),
        (ComfyuiConfig, "customise", "overrides"),
        (ComfyuiConfig, "previews", "preview_method"),
        (ComfyuiConfig, "request_seconds", "response_timeout_seconds"),
        (ComfyuiConfig, "deadline_seconds", "timeout_seconds"),
        (WorkflowSetConfig, "customise", "overrides"),
        (IdeogramConfig, "deadline_seconds", "timeout_seconds"),
        (InvokeAiConfig, "deadline_seconds", "timeout_seconds"),
        (OpenaiConfig, "deadline_seconds", "timeout_seconds"),
        (VastaiConfig, "idle_seconds", "idle_timeout_seconds"),
        (VastaiConfig, "boot_seconds", "startup_timeout_seconds"),
        (VastaiConfig, "wait_seconds", "acquire_timeout_seconds"),
        (VastaiConfig, "sick_checks", "unhealthy_threshold"),
    ],
)
def test_a_renamed_key_is_refused_with_its_new_name(
    config: type[Section], old: str, new: str
) -> None:
    """Keys of base classes too."""
    with pytest.raises(ValidationError, match=rf"{old}\s+is now {new}"):
        config.model_validate({old: 1})
    assert new in config.model_fields
