"""What an engine can do is the same on this side of any number of servers, in every field."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier_engines.capabilities import (
    AudioCapabilities,
    CancelSupport,
    Capabilities,
    ImageCapabilities,
    Reproducibility,
)
from atelier_engines.wrappers.task_digest import digest
from tests.totality.conftest import Serve, forwarding
from tests.totality.filling import defaulted, filled
from tests.totality.recording_engine import RecordingEngine
from tests.totality.tasks import IMAGE


def everything() -> Capabilities:
    """Capabilities in which every field says something of its own."""
    return replace(filled(Capabilities), concurrency=200)


@pytest.mark.parametrize(
    ("engine", "servers"), [("deep", ["atelier"]), ("far", ["atelier", "atelier 2"])]
)
async def test_every_field_of_the_capabilities_comes_through(
    serve: Serve, engine: str, servers: list[str]
) -> None:
    """Over the wire and back into an engine's words, once and twice; the versions also name the servers."""
    given = everything()
    async with serve(RecordingEngine(given)) as address, forwarding(address, engine) as forwarded:
        found = forwarded.capabilities
    versions = dict(found.versions)
    assert [server for server in servers if versions.pop(server, "")] == servers
    assert replace(found, versions=versions) == given


@pytest.mark.parametrize("member", [CancelSupport, Reproducibility])
async def test_every_way_to_cancel_and_to_repeat_comes_through(
    serve: Serve, member: type[CancelSupport | Reproducibility]
) -> None:
    """None is taken for another."""
    field = {CancelSupport: "cancel", Reproducibility: "reproducibility"}[member]
    for value in member:
        given = replace(everything(), **{field: value})  # type: ignore[arg-type]  # fields by name
        async with serve(RecordingEngine(given)) as address, forwarding(address, "deep") as engine:
            assert getattr(engine.capabilities, field) is value


@pytest.mark.parametrize("kind", ["image", "audio"])
async def test_what_an_engine_does_not_make_stays_unsaid(serve: Serve, kind: str) -> None:
    """And so do limits that it does not have, and a price where it is free."""
    given = replace(everything(), **{kind: None}, price=None)  # type: ignore[arg-type]  # fields by name
    side = "audio" if kind == "image" else "image"
    limits: ImageCapabilities | AudioCapabilities = getattr(given, side)
    given = replace(given, **{side: replace(limits, steps=None, guidance=None)})  # type: ignore[arg-type]  # fields by name
    async with serve(RecordingEngine(given)) as address, forwarding(address, "deep") as engine:
        found = engine.capabilities
    assert (found.image, found.audio, found.price) == (given.image, given.audio, None)


def test_versions_of_the_engine_behind_are_part_of_the_cache_key() -> None:
    """Other weights behind the same address make other images."""
    before = everything()
    after = replace(before, versions={**before.versions, "torch": "3.0"})
    assert digest(IMAGE, before, "far") != digest(IMAGE, after, "far")


def test_a_field_that_is_not_filled_is_found() -> None:
    """The test itself would notice that it tests nothing."""
    given = everything()
    assert given.image is not None
    forgotten = replace(given.image.width, allowed_values=())
    poorer = replace(given, image=replace(given.image, width=forgotten, steps=None))
    assert list(defaulted(poorer)) == ["image.width.allowed_values", "image.steps"]
