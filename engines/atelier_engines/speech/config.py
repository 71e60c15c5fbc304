"""The settings of a speech engine, and the options of its tasks."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from atelier_engines.config import Section

_SLOWEST, _FASTEST = 0.5, 2.0


class SpeechConfig(Section):
    """The section of a speech engine in the configuration file."""

    speed: float = Field(
        default=1.0,
        ge=_SLOWEST,
        le=_FASTEST,
        description="How fast the voice speaks where the task does not say; 1 is its own pace.",
    )
    load_on_demand: bool = Field(
        default=False,
        description="Whether the voice is loaded by the first task, which takes a second longer, instead of at the "
        "start: until then it takes no memory.",
    )


class SpeechOptions(BaseModel):
    """The options of one task; unset ones are as configured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    speed: float | None = Field(
        default=None,
        ge=_SLOWEST,
        le=_FASTEST,
        description="How fast the voice speaks; 1 is its own pace.",
    )
