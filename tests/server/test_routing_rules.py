"""Rules of the configuration choose an engine or a style by the prompt; plan and receipt say which one did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import SelectionReason
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.config.configuration_files import ConfigurationError
from atelier_server.config.load import load
from tests.conftest import RunningServer, StartServer
from tests.server.calls import Stub, audio_request, image_request, receipt_of
from tests.server.test_artifacts import png

SKETCH = {"type": "sketch"}
RULES = [
    {"words": ["portrait", "face of"], "engine": "faces", "style": "noir"},
    {"pattern": r"\b(19|20)\d\ds?\b", "style": "poster"},
    {"words": ["river", " c++ "], "engine": "second"},
]


@pytest.fixture
def server(start_server: StartServer) -> RunningServer:
    """Three engines, two styles, three rules."""
    return start_server(
        engines={"first": SKETCH, "second": SKETCH, "faces": {**SKETCH, "output_bytes": 8192}},
        styles={"noir": {"prompt_suffix": ", noir"}, "poster": {"prompt_prefix": "poster, "}},
        routing_rules=RULES,
    )


@pytest.fixture
async def stub(server: RunningServer) -> AsyncIterator[Stub]:
    """Calls the server."""
    async with aio.insecure_channel(server.address) as channel:
        yield GenerationServiceStub(channel)


def request_of(prompt: str, engine: str = "", style: str = "") -> pb.GenerateRequest:
    """A request for a small image."""
    request = image_request(engine=engine, task={"style": style})
    request.image.prompt = prompt
    return request


async def test_a_rule_chooses_an_engine_and_a_style(stub: Stub) -> None:
    """By whole words in upper or lower case; what the request names itself comes first."""
    cases = [
        ("a Portrait, 1970", "", "", "faces", "noir"),
        ("the FACE OF a clock", "", "", "faces", "noir"),
        ("portraiture", "", "", "first", ""),
        ("a car of the 1970s", "", "", "first", "poster"),
        ("a portrait at the river", "", "poster", "faces", ""),
        ("a portrait", "second", "", "second", "noir"),
        ("a boat", "", "", "first", ""),
        ("selfportrait", "", "", "first", ""),
        ("A CAR OF THE 1970S", "", "", "first", "poster"),
        ("a book on C++", "", "", "second", ""),
        ("the letter c", "", "", "first", ""),
    ]
    for prompt, engine, style, used, added in cases:
        request = request_of(prompt, engine, style)
        plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=request))
        found = {one.name: one.value.string_value for one in plan.parameters}
        assert (prompt, plan.engine, found.get("style", "")) == (prompt, used, added)
    made = (await stub.Generate(request_of("a portrait"))).generation
    selection = made.receipt.selection
    assert selection.reason == SelectionReason.SELECTION_REASON_RULE
    assert selection.explanation == "rule 1: the prompt has 'portrait'"
    chosen = receipt_of(made)["style"]
    assert (chosen.value.string_value, chosen.explanation) == ("noir", selection.explanation)


async def test_a_rule_holds_for_audio_and_only_where_its_engine_can(stub: Stub) -> None:
    """What the engine of a rule cannot do goes on to the next rule, and to the default engine."""
    audio = audio_request(engine="")
    audio.audio.prompt = "a river"
    plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=audio))
    assert plan.engine == "second"
    photo = request_of("a portrait")
    photo.image.init_image.attachment = "a"
    photo.attachments["a"] = png("blue", (64, 64))
    plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=photo))
    assert plan.engine == "first"
    await stub.PauseEngine(pb.PauseEngineRequest(engine="second", reason="maintenance"))
    plan = await stub.PlanGeneration(pb.PlanGenerationRequest(generate=audio))
    assert (plan.engine, plan.selection.reason) == (
        "first",
        SelectionReason.SELECTION_REASON_DEFAULT,
    )


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{words: [a], engine: none}", "routing_rules.0.engine: no engine 'none'; there are one"),
        ("{words: [a], style: none}", "routing_rules.0.style: no style 'none'; there are none"),
        ("{engine: one}", "set either words or pattern"),
        ("{words: [a], pattern: b, engine: one}", "set either words or pattern"),
        ("{words: [a]}", "set engine, style or both"),
        ("{pattern: '(', engine: one}", "is no regular expression"),
        ("{words: [' '], engine: one}", "a character in each word"),
    ],
)
def test_a_wrong_rule_is_named(tmp_path: Path, rule: str, message: str) -> None:
    """With its number."""
    path = tmp_path / "atelier.yaml"
    path.write_text(f"engines: {{one: {{type: sketch}}}}\nrouting_rules: [{rule}]")
    with pytest.raises(ConfigurationError) as error:
        load(path)
    assert message in str(error.value)
    assert "routing_rules.0" in str(error.value)


def test_rules_for_engines_that_are_left_out_are_left_out(tmp_path: Path) -> None:
    """As with `atelier serve --engine`; those that choose a style alone stay."""
    path = tmp_path / "atelier.yaml"
    rules = "[{words: [a], engine: two}, {words: [b], engine: one}, {words: [c], style: noir}]"
    path.write_text(
        "engines: {one: {type: sketch}, two: {type: sketch}}\nstyles: {noir: {}}\n"
        f"routing_rules: {rules}"
    )
    left = load(path, only_engines=["one"]).routing_rules
    assert [(rule.engine, rule.style) for rule in left] == [("one", None), (None, "noir")]
