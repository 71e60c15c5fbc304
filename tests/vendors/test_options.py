"""Options of one request: every engine lists its own, and refuses others by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from atelier_engines.conformance.remote_service import collect_events
from atelier_engines.engine import Engine
from atelier_engines.errors import InvalidTaskError
from atelier_engines.registry import load
from atelier_server.admission.options import find_option_violations
from tests.vendors.subjects import STAND_INS, SUBJECTS, Subject

_LOCAL = ("diffusion", "sketch", "upscale")


def options_of(engine: Engine) -> Mapping[str, Any]:
    """The schema of each option; it must allow no others."""
    schema: Mapping[str, Any] = engine.capabilities.options_schema
    assert schema["additionalProperties"] is False
    found: Mapping[str, Any] = schema.get("properties", {})
    return found


def require_described(options: Mapping[str, Any]) -> None:
    """Each option says what it does, and what it takes."""
    assert [name for name, option in options.items() if not option.get("description")] == []
    typed = {"type", "enum", "anyOf", "allOf", "$ref"}
    assert [name for name, option in options.items() if not typed & option.keys()] == []


@pytest.mark.parametrize("name", _LOCAL)
def test_engines_of_this_machine_list_their_options(name: str) -> None:
    """With what they take; an unknown one is refused by its name."""
    kind = load(name)
    engine = kind.create(kind.config())
    require_described(options_of(engine))
    (violation,) = find_option_violations(engine.capabilities.options_schema, {"nonesuch": 1})
    assert "'nonesuch'" in violation.message


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
async def test_engines_of_services_refuse_unknown_options_by_name(subject: Subject) -> None:
    """At the admission, and should it come so far, in the engine, before anything is sent."""
    with STAND_INS[subject.engine]() as service:
        engine = service.engine(**subject.settings)
        require_described(options_of(engine))
        (violation,) = find_option_violations(engine.capabilities.options_schema, {"nonesuch": 1})
        assert "'nonesuch'" in violation.message
        task = replace(service.task, options={"nonesuch": 1})
        with pytest.raises(InvalidTaskError, match="nonesuch"):
            await collect_events(service, task, **subject.settings)
