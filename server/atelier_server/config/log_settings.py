"""The section of the configuration that says what is logged, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from atelier_engines.config import Section


class LogSettings(Section):
    """Logging, to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum level that is logged."
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto",
        description="json: one JSON object a line; console: readable lines; auto: console on a terminal, else json.",
    )
    audit: Path | None = Field(
        None,
        description="File to which each call that acts on something, or that is refused, adds a JSON line: who did "
        "what to which generation, artifact or engine. It is opened again when it was moved away. Null: none.",
    )
