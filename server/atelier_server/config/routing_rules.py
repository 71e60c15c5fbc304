"""Rules that choose an engine or a style by the prompt."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, field_validator, model_validator

from atelier_engines.config import Section
from atelier_server.config.engine_settings import Name


class RoutingRule(Section):
    """One rule: what it looks for in prompts, and what it chooses."""

    words: tuple[str, ...] = Field(
        (),
        description="Words or phrases, one of which the prompt must have; whole words, in upper or lower case.",
    )
    pattern: str | None = Field(
        None,
        max_length=1024,
        description="Regular expression of Python that must be found in the prompt, in upper or lower case. Keep it "
        "simple: nested repetitions can take minutes on a long prompt, and all else waits.",
    )
    engine: Name | None = Field(
        None, description="Engine for tasks that name none, if it works and can do the task."
    )
    style: Name | None = Field(None, description="Style for image tasks that name none.")

    @field_validator("words")
    @classmethod
    def _require_words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if not all(word.strip() for word in words):
            raise ValueError("must have a character in each word")
        return words

    @field_validator("pattern")
    @classmethod
    def _compile(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        return pattern

    @model_validator(mode="after")
    def _require_both_sides(self) -> Self:
        if bool(self.words) == bool(self.pattern):
            raise ValueError("set either words or pattern")
        if self.engine is None and self.style is None:
            raise ValueError("set engine, style or both")
        return self
