"""Finds the rules of the configuration that match a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_server.config.routing_rules import RoutingRule


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedRule:
    """A rule that matches a prompt."""

    rule: RoutingRule
    """The rule."""
    explanation: str
    """Which one it is, and what it found, for the receipt."""


def find_matches(rules: Sequence[RoutingRule], request: GenerateRequest) -> Iterator[MatchedRule]:
    """The rules that match the prompt of the request, in their order."""
    prompt = request.image.prompt if request.HasField("image") else request.audio.prompt
    for number, rule in enumerate(rules, 1):
        if rule.pattern is not None:
            if re.search(rule.pattern, prompt, re.IGNORECASE):
                yield MatchedRule(
                    rule=rule, explanation=f"rule {number}: the prompt matches its pattern"
                )
            continue
        found = next((word for word in rule.words if _has_word(prompt, word)), None)
        if found is not None:
            yield MatchedRule(rule=rule, explanation=f"rule {number}: the prompt has {found!r}")


def _has_word(prompt: str, word: str) -> bool:
    """Whether the prompt has the word or phrase, not only as a part of a longer word."""
    return bool(re.search(rf"(?<!\w){re.escape(word.strip())}(?!\w)", prompt, re.IGNORECASE))
