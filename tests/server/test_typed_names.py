"""Names of LoRAs and embeddings: listed in the request or typed in its prompts, and always accounted for."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

pytest.importorskip("torch", reason="the extra `local` is not installed")

import torch
from safetensors.torch import save_file

from atelier.v1 import engine_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_pb2 import Disposition, Generation, Parameter
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import Embedding, ImageTask, Lora
from atelier_engines.capabilities import ImageCapabilities, ImageFeature, IntegerRange
from atelier_server.admission.parameters import ParameterRecorder
from atelier_server.admission.prompts import Prompts, decide_prompts
from atelier_server.admission.typed_names import drop_unknown_embeddings, take_loras
from tests.conftest import RunningServer, launch
from tests.server.calls import Stub, refusal

_SIDE = IntegerRange(min=64, max=64, default=64)
READS = ImageCapabilities(
    width=_SIDE,
    height=_SIDE,
    max_pixels=4096,
    features=frozenset({ImageFeature.LORA, ImageFeature.EMBEDDING}),
    loras=("ink", "v1.5 wool"),
    max_loras=4,
    embeddings=("ugly",),
    typed_names=True,
)
SENDS = replace(READS, typed_names=False)


def told(parameters: Sequence[Parameter]) -> list[tuple[str, str, str, str]]:
    """Field, disposition, what was typed and what was used; of names alone."""
    return [
        (
            one.name,
            Disposition.Name(one.disposition).removeprefix("DISPOSITION_").lower(),
            one.requested.string_value,
            one.value.string_value,
        )
        for one in parameters
        if one.name in {"loras", "embeddings", "prompt", "negative_prompt"}
    ]


def taken(
    capabilities: ImageCapabilities, **task: object
) -> tuple[ImageTask, list[tuple[str, str, str, str]]]:
    """The request without its tags, and what was noted."""
    recorder = ParameterRecorder()
    made = take_loras(ImageTask(**task), capabilities, recorder)  # type: ignore[arg-type]  # fields by name
    return made, told(recorder.parameters)


@pytest.mark.parametrize(
    ("tag", "weight", "disposition"),
    [
        ("<lora:ink:0.8>", 0.8, "applied"),
        ("<lora:ink>", 1.0, "applied"),
        ("<lora:ink:-.5>", -0.5, "applied"),
        ("<lora:ink.safetensors:1>", 1.0, "applied"),
        ("<lyco:ink:0.7>", 0.7, "applied"),
        ("<lora: ink :0.5:0.5>", 0.5, "applied"),
        ("<lora:ink:te=0.4:unet=0.4>", 0.4, "applied"),
        ("<lora:ink:0>", 0.0, "applied"),
        ("<lora:ink:0.8:0.6>", 0.6, "clamped"),
        ("<lora:ink:1:unet=0.5>", 0.5, "clamped"),
        ("<lora:ink:0.8:0.8:64>", 0.8, "clamped"),
        ("<lora:ink:0.8:dyn=64>", 0.8, "clamped"),
        ("<lora:ink:9>", 4.0, "clamped"),
    ],
)
@pytest.mark.parametrize("capabilities", [READS, SENDS])
def test_a_typed_lora_that_the_engine_lists_is_one_of_the_tasks(
    capabilities: ImageCapabilities, tag: str, weight: float, disposition: str
) -> None:
    """On every engine with LoRAs; the prompt is without it, and more than a weight is not kept secret."""
    task, noted = taken(capabilities, prompt=f"a red apple, {tag}")
    assert task.prompt == "a red apple,"
    assert [(lora.name, round(lora.weight, 6)) for lora in task.loras] == [("ink", weight)]
    assert noted == [("loras", disposition, tag, f"ink:{weight:g}")]


@pytest.mark.parametrize(
    "tag", ["<lora:oil:1>", "<lora:ink:strong>", "<lora:ink:nan>", "<hypernet:ink:1>"]
)
def test_what_cannot_be_applied_is_told(tag: str) -> None:
    """An engine that reads names gets the prompt without it, another one as it is."""
    task, noted = taken(READS, prompt=f"{tag} a (red <lora:v1.5 wool:1>) apple")
    assert (task.prompt, noted[0]) == ("a (red ) apple", ("prompt", "ignored", tag, ""))
    assert [lora.name for lora in task.loras] == ["v1.5 wool"]
    task, noted = taken(SENDS, prompt=f"{tag} a red apple")
    assert (task.prompt, noted) == (
        f"{tag} a red apple",
        [("prompt", "ignored", tag, "")],
    )


def test_a_lora_has_one_weight() -> None:
    """That of the request's own list, or that which is typed first; equal ones need no word."""
    task, noted = taken(
        READS, prompt="<lora:ink:0.5><lora:ink:0.7><lora:ink:0.5>", loras=[Lora(name="v1.5 wool")]
    )
    assert [lora.name for lora in task.loras] == ["v1.5 wool", "ink"]
    assert [each[1:3] for each in noted] == [
        ("applied", "<lora:ink:0.5>"),
        ("ignored", "<lora:ink:0.7>"),
    ]
    task, noted = taken(READS, prompt="<lora:ink:0.7>", loras=[Lora(name="ink", weight=0.7)])
    assert not noted
    task, noted = taken(READS, prompt="x <lora:ink:1>", loras=[Lora(name="ink", weight=0.0)])
    assert (task.prompt, task.loras[0].weight, noted[0][1]) == ("x", 0, "ignored")


def test_a_lora_in_the_negative_prompt_is_told() -> None:
    """It is not applied to the image."""
    task, noted = taken(READS, prompt="x", negative_prompt="fog <lora:ink:1>")
    assert (task.negative_prompt, len(task.loras)) == ("fog", 0)
    assert noted == [("negative_prompt", "ignored", "<lora:ink:1>", "")]


@pytest.mark.parametrize(
    "text", ["a < b > c", "<lora>", "<loras:ink:1>", "<b:ink:1>", "lora:ink:1"]
)
def test_other_text_is_not_touched(text: str) -> None:
    """To the character."""
    assert taken(READS, prompt=f" {text} ")[0].prompt == f" {text} "


def test_embeddings_that_nobody_knows_are_told() -> None:
    """A service that reads such names gets them in silence."""
    text = "embedding:ugly, (embedding:best:1.2), embedding:bad.pt, an embedding: of x"
    for capabilities, wanted, count in (
        (READS, "embedding:ugly, (:1.2), , an embedding: of x", 2),
        (SENDS, text, 2),
        (replace(SENDS, service_reads_embeddings=True), text, 0),
    ):
        recorder = ParameterRecorder()
        made = drop_unknown_embeddings(text, "prompt", ("ugly",), capabilities, recorder)
        assert (made, len(recorder.parameters)) == (wanted, count)


def decided(
    capabilities: ImageCapabilities, **task: object
) -> tuple[Prompts, list[tuple[str, str, str, str]]]:
    """The prompts as the engine gets them, and what was noted."""
    recorder = ParameterRecorder()
    request = ImageTask(**task)  # type: ignore[arg-type]  # fields by name
    return decide_prompts(request, (), 5.0, capabilities, recorder), told(recorder.parameters)


def test_a_name_inside_a_longer_one_is_not_used_and_not_told() -> None:
    """The longest name stands for its embedding; the shorter one is added where the request lists it."""
    capabilities = replace(READS, embeddings=("style", "style two", "v1", "v1.5"))
    prompts, noted = decided(capabilities, prompt="style two, v1.5")
    assert prompts.embeddings == ("style two", "v1.5")
    assert [each[2] for each in noted] == ["style two", "v1.5"]
    prompts, _ = decided(capabilities, prompt="style two", embeddings=[Embedding(name="style")])
    assert prompts.prompt == "style two, embedding:style"
    assert prompts.embeddings == ("style", "style two")


def test_the_word_between_sections_is_no_unknown_word() -> None:
    """Where brackets are weights, it is read; elsewhere it is a word as others are."""
    reads = replace(READS, vocabulary=frozenset({"ball"}))
    assert decided(reads, prompt="ball BREAK ball")[1] == []
    for capabilities, text in ((reads, "ball Break"), (replace(reads, typed_names=False), "BREAK")):
        assert decided(capabilities, prompt=text)[1] == [("prompt", "ignored", "break", "")]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with the trained model and two embeddings, and one that reads no names."""
    folder: Path = tmp_path_factory.mktemp("gallery")
    torch.manual_seed(0)
    for name in ("ugly", "<wool>"):
        vectors = {"clip_l": torch.randn(2, 64), "clip_g": torch.randn(2, 128)}
        save_file(vectors, folder / f"{name}.safetensors")
    # In Latin-1, as old archives name files; callers could not even be told such a name.
    shutil.copy(folder / "ugly.safetensors", folder / os.fsdecode(b"caf\xe9.safetensors"))
    tiny = {"type": "diffusion", "device": "cpu", "embedding_directory": str(folder)}
    engines: Mapping[str, object] = {"tiny": tiny, "sketch": {"type": "sketch"}}
    running = launch(folder, environment={}, wait=["tiny"], engines=engines)
    yield running
    running.kill()


@pytest.fixture
async def stub(gallery: RunningServer) -> AsyncIterator[Stub]:
    """Calls it."""
    async with aio.insecure_channel(gallery.address) as channel:
        yield GenerationServiceStub(channel)


def asked(*, engine: str = "tiny", strict: bool = False, **task: object) -> pb.GenerateRequest:
    """A request for a small image."""
    image = ImageTask(**{"prompt": "a red ball", "seed": 7, "steps": 2, **task})  # type: ignore[arg-type]  # fields by name
    return pb.GenerateRequest(engine=engine, image=image, strict=strict, inline_outputs=True)


async def made(stub: Stub, **how: object) -> tuple[str, Generation]:
    """The digest of the file, metadata included, and the record."""
    request = asked(**how)  # type: ignore[arg-type]  # a test's own words
    generation = (await stub.Generate(request)).generation
    return generation.outputs[0].artifact.sha256, generation


async def test_embeddings_are_listed_used_and_told(stub: Stub) -> None:
    """In the list of the request, and in both prompts; the receipt has each with its digest."""
    engines = (await stub.GetCapabilities(pb.GetCapabilitiesRequest())).engines
    tiny, sketch = (engine.image for engine in engines)
    assert engine_pb2.IMAGE_FEATURE_EMBEDDING in tiny.features
    assert (list(tiny.embeddings), tiny.typed_names) == (["<wool>", "ugly"], True)
    assert (list(sketch.embeddings), sketch.typed_names) == ([], False)
    listed, generation = await made(
        stub,
        prompt="a ball",
        negative_prompt="fog",
        embeddings=[Embedding(name="<wool>"), Embedding(name="ugly", negative=True)],
        strict=True,
    )
    assert told(generation.receipt.parameters) == [
        ("negative_prompt", "applied", "fog, embedding:ugly", "fog, embedding:ugly"),
        ("embeddings", "applied", "<wool>", "<wool>"),
        ("embeddings", "applied", "ugly", "ugly"),
    ]
    assert {"embedding ugly", "embedding <wool>"} < set(generation.receipt.recipe.versions)
    typed, generation = await made(
        stub, prompt="a ball, embedding:<wool>", negative_prompt="fog, embedding:ugly", strict=True
    )
    assert typed == listed
    assert [entry[1] for entry in told(generation.receipt.parameters)] == ["applied"] * 3
    plain, generation = await made(stub, prompt="a ball", negative_prompt="fog, uglyness")
    assert plain != listed
    assert "embeddings" not in {one.name for one in generation.receipt.parameters}


async def test_typed_loras_are_those_of_the_list(stub: Stub) -> None:
    """To the byte, metadata included; what is unknown is refused when strict, by its field."""
    listed, _ = await made(stub, prompt="a red ball", loras=[Lora(name="sketch", weight=0.5)])
    typed, generation = await made(stub, prompt="a red ball <lora:sketch:0.5>", strict=True)
    assert typed == listed
    assert told(generation.receipt.parameters) == [
        ("loras", "applied", "<lora:sketch:0.5>", "sketch:0.5")
    ]
    plain, _ = await made(stub, prompt="a red ball")
    unknown, generation = await made(
        stub, prompt="a red ball <lora:oil:1>", negative_prompt="embedding:none"
    )
    assert unknown == plain
    assert [entry[:3] for entry in told(generation.receipt.parameters)] == [
        ("prompt", "ignored", "<lora:oil:1>"),
        ("negative_prompt", "ignored", "embedding:none"),
    ]
    refused = await refusal(
        stub.Generate(asked(prompt="<lora:oil:1> embedding:none a ball", strict=True))
    )
    assert "there is no" in refused.fields["image.prompt"]
    assert refused.code.name == "INVALID_ARGUMENT"


async def test_without_an_effect_it_is_told(stub: Stub) -> None:
    """A negative embedding without guidance, and any on an engine that has none."""
    alone: dict[str, Any] = {
        "prompt": "x",
        "embeddings": [Embedding(name="ugly", negative=True)],
    }
    _, generation = await made(stub, guidance=1.0, **alone)
    assert ("embeddings", "ignored", "ugly", "") in told(generation.receipt.parameters)
    refused = await refusal(stub.Generate(asked(engine="sketch", **alone)))
    assert "does not support embedding" in refused.message
    refused = await refusal(stub.Generate(asked(embeddings=[Embedding(name="none")])))
    assert "embeddings must be one of <wool>, ugly, not 'none'" in refused.message
    generation = (await stub.Generate(asked(engine="sketch", prompt="x <lora:a:1>"))).generation
    assert told(generation.receipt.parameters) == [("prompt", "ignored", "<lora:a:1>", "")]
