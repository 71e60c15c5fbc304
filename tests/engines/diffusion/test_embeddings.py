"""Textual inversion embeddings: in every format, of one vector and of many, in prompts of every kind."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file

from atelier_engines.diffusion import DiffusionEngine
from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.embeddings import config_embeddings
from atelier_engines.diffusion.embeddings.catalog import list_bundled, resolve_files
from atelier_engines.diffusion.embeddings.loader import EmbeddingLoader
from atelier_engines.diffusion.embeddings.reading import TextualInversion, read
from atelier_engines.diffusion.loras.catalog import LoraCatalog
from atelier_engines.diffusion.prompts.chunks import Chunk, split_into_chunks
from atelier_engines.diffusion.prompts.encoder import EmbeddingCache, PromptEncoder
from atelier_engines.diffusion.prompts.marks import mark_names
from atelier_engines.diffusion.prompts.syntax import parse_weighted
from atelier_engines.errors import InvalidTaskError, ModelMissingError, UnsupportedError
from atelier_engines.prompt_names import find_names

WIDTHS = (32, 64)
"""Of the random model's text encoders."""


def vectors(count: int, width: int = 32, *, seed: int = 1) -> torch.Tensor:
    """Random ones, as large as trained ones are beside those of words."""
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) * 0.5


def written(path: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    """The path of a file with these tensors."""
    path.parent.mkdir(exist_ok=True)
    save_file(dict(tensors), path)
    return path


def inversion(name: str, count: int, *, seed: int = 1) -> TextualInversion:
    """An embedding of so many vectors for each text encoder."""
    both = (vectors(count, seed=seed), vectors(count, 64, seed=seed + 100))
    return TextualInversion(name=name, vectors=both, digest=f"{name} {count} {seed}")


@pytest.fixture
def encoder(engine: DiffusionEngine, pipeline: StableDiffusionXLPipeline) -> PromptEncoder:
    """The engine's text encoders, without a cache."""
    return PromptEncoder(
        text_encoders=engine.inspect().family.runtime.text_encoders,
        tokenizers=(pipeline.tokenizer, pipeline.tokenizer_2),
        layer=-2,
        prompt_syntax="weighted",
        cache=EmbeddingCache(0),
    )


@pytest.mark.parametrize("count", [1, 3])
def test_what_the_text_encoders_make_of_it_is_what_diffusers_makes(
    encoder: PromptEncoder, model: Path, count: int
) -> None:
    """To the bit, hidden states and pooled embedding; also twice in one prompt."""
    theirs = StableDiffusionXLPipeline.from_pretrained(model, add_watermarker=False)
    style = inversion("style", count)
    for tensor, module, tokenizer in zip(
        style.vectors,
        (theirs.text_encoder, theirs.text_encoder_2),
        (theirs.tokenizer, theirs.tokenizer_2),
        strict=True,
    ):
        theirs.load_textual_inversion({"<style>": tensor}, text_encoder=module, tokenizer=tokenizer)
    hidden, _, pooled, _ = theirs.encode_prompt(
        "a red <style> apple, <style>", do_classifier_free_guidance=False
    )
    for text in ("a red embedding:style apple, <style>", "a red style apple, style"):
        made = encoder.encode(text, inversions=[style])
        assert torch.equal(made.hidden, hidden)
        assert made.pooled is not None
        assert torch.equal(made.pooled, pooled)
    assert not torch.equal(encoder.encode("a red style apple, style").hidden, hidden)


@pytest.mark.parametrize(
    "keys",
    [
        {"clip_l": 0, "clip_g": 1},
        {"clip_g": 1, "clip_l": 0},
        {"text_encoders_0": 0, "text_encoders_1": 1},
    ],
)
def test_both_vectors_are_found_by_their_names(tmp_path: Path, keys: Mapping[str, int]) -> None:
    """The names of kohya, A1111 and OneTrainer, and those of diffusers' trainer; float16 too."""
    both = inversion("x", 2).vectors
    made = written(tmp_path / "x.safetensors", {key: both[n].half() for key, n in keys.items()})
    found = read("x", made, WIDTHS)
    for tensor, wanted in zip(found.vectors, both, strict=True):
        assert torch.equal(tensor, wanted.half().float())


@pytest.mark.parametrize("key", ["emb_params", "<cat-toy>", "string_to_param.*", "clip_l"])
@pytest.mark.parametrize("shape", [(3, 32), (1, 32), (32,)])
def test_for_one_text_encoder_the_only_tensor_counts(
    tmp_path: Path, key: str, shape: tuple[int, ...]
) -> None:
    """The names of kohya and A1111, and the word as diffusers writes it; one vector may be no matrix."""
    tensor = vectors(3).flatten()[: torch.Size(shape).numel()].reshape(shape)
    found = read("x", written(tmp_path / "x.safetensors", {key: tensor}), (32,))
    assert torch.equal(found.vectors[0], tensor.reshape(-1, 32))


def test_the_two_files_of_diffusers_are_one_embedding(tmp_path: Path) -> None:
    """Its trainer for SDXL writes one for each text encoder; both count in the digest."""
    both = inversion("x", 2).vectors
    first = written(tmp_path / "learned_embeds.safetensors", {"<x>": both[0]})
    with pytest.raises(ModelMissingError, match="does not match this model"):
        read("x", first, WIDTHS)
    written(tmp_path / "learned_embeds_2.safetensors", {"<x>": both[1]})
    found = read("x", first, WIDTHS)
    assert torch.equal(found.vectors[1], both[1])
    written(tmp_path / "learned_embeds_2.safetensors", {"<x>": both[1] * 2})
    assert read("x", first, WIDTHS).digest != found.digest


WRONG: Mapping[str, tuple[Mapping[str, torch.Tensor], Sequence[int], str]] = {
    "of 1.5 for XL": (
        {"emb_params": vectors(2, 768)},
        (768, 1280),
        r"768 \(Stable Diffusion 1.5\) numbers, and .* take 768 and 1280 \(Stable Diffusion XL\)",
    ),
    "of XL for 2": (
        {"clip_l": vectors(1, 768), "clip_g": vectors(1, 1280)},
        (1024,),
        r"768 and 1280 \(Stable Diffusion XL\) numbers, and .* take 1024 \(Stable Diffusion 2\)",
    ),
    "half of XL": ({"clip_g": vectors(1, 64)}, WIDTHS, "its vectors have 64 numbers"),
    "two counts": (
        {"clip_l": vectors(1), "clip_g": vectors(2, 64)},
        WIDTHS,
        "it has 1 and 2 vectors",
    ),
    "several": ({"<s0>": vectors(1), "<s1>": vectors(1)}, (32,), "it has <s0>, <s1>"),
    "of the output": ({"clip_l_out": vectors(1)}, (32,), "clip_l_out marks vectors for the output"),
    "a LoRA": ({"a.lora_up.weight": vectors(1), "a.alpha": vectors(1)}, (32,), "a.lora_up.weight"),
    "no rows": ({"emb_params": torch.ones(1, 2, 32)}, (32,), r"has the shape \(1, 2, 32\)"),
    "not finite": ({"emb_params": vectors(1) / 0}, (32,), "NaN or infinity"),
    "nothing": ({}, (32,), "it has no tensors"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, case: str) -> None:
    """With what it is, and what the model takes."""
    tensors, widths, words = WRONG[case]
    with pytest.raises(ModelMissingError, match=f"the embedding bad .*{words}"):
        read("bad", written(tmp_path / "bad.safetensors", tensors), widths)


def test_a_directory_is_read_and_pickles_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log; one that is configured by name stops the start."""
    good = written(tmp_path / "good.safetensors", {"emb_params": vectors(1)})
    written(tmp_path / "toy" / "learned_embeds.safetensors", {"<toy>": vectors(1)})
    (tmp_path / "old.pt").write_bytes(b"x")
    config = DiffusionConfig(embedding_directory=str(tmp_path), embeddings={"again": str(good)})
    assert config_embeddings.names(config) == ("again", "good", "toy")
    assert resolve_files(config)["again"] == good
    assert [record.__dict__["file"] for record in caplog.records] == ["old.pt"]
    with pytest.raises(ModelMissingError, match=r"the embedding old: .*old\.pt is refused"):
        resolve_files(DiffusionConfig(embeddings={"old": str(tmp_path / "old.pt")}))
    with pytest.raises(ModelMissingError, match="embedding_directory: there is no directory"):
        resolve_files(DiffusionConfig(embedding_directory=str(tmp_path / "none")))


def test_names_that_no_caller_can_send_are_not_offered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file's name in Latin-1, and in a LoRA a name that is empty or half of a pair of UTF-16."""
    written(tmp_path / "ugly.safetensors", {"emb_params": vectors(1)})
    (tmp_path / "ugly.safetensors").rename(tmp_path / os.fsdecode(b"caf\xe9.safetensors"))
    config = DiffusionConfig(embedding_directory=str(tmp_path), lora_directory=str(tmp_path))
    assert config_embeddings.names(config) == ()
    assert resolve_files(config) == {}
    LoraCatalog(config)
    logged = [(record.message, vars(record)["kind"]) for record in caplog.records]
    assert logged == [("file_not_offered", "embedding"), ("file_not_offered", "LoRA")]
    keys = ("bundle_emb..clip_l", "bundle_emb.drop.clip_l", "bundle_emb.\\ud800.clip_l")
    header = ", ".join(
        f'"{key}": {{"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}' for key in keys
    )
    lora = tmp_path / "ink.safetensors"
    lora.write_bytes(struct.pack("<Q", len(header) + 2) + f"{{{header}}}".encode())
    assert list_bundled(lora) == ("drop",)


def test_thousands_of_names_are_found_in_a_long_prompt() -> None:
    """Where each of them was tried at each character, a prompt of this length took minutes."""
    names = [f"{index % 7} style {index}" for index in range(20_000)]
    places = find_names("a red apple, 3 style 3, " * 400, names)
    assert {place.name for place in places} == {"3 style 3"}
    assert len(places) == 400


def test_an_embedding_in_a_lora_is_there_while_the_lora_is_active(tmp_path: Path) -> None:
    """And then it takes precedence; two of one name are refused."""
    both = (vectors(2), vectors(2, seed=2))
    bundle = {"bundle_emb.x.clip_l": both[0], "bundle_emb.x.clip_g": both[1]}
    one = written(tmp_path / "one.safetensors", bundle)
    two = written(tmp_path / "two.safetensors", bundle)
    own = written(tmp_path / "x.safetensors", {"clip_l": both[1], "clip_g": both[0]})
    loader = EmbeddingLoader({"x": own}, {"one": one, "two": two}, (32, 32))
    assert loader.bundled == {"one": ("x",), "two": ("x",)}
    (found,) = loader.find(["x"], ["one"])
    assert torch.equal(found.vectors[0], both[0])
    (found,) = loader.find(["x"], [])
    assert torch.equal(found.vectors[0], both[1])
    with pytest.raises(InvalidTaskError, match="one and two both bring an embedding x"):
        loader.find(["x"], ["one", "two"])
    with pytest.raises(UnsupportedError, match="there is no embedding 'y' here; there is x"):
        loader.find(["y"], [])


def chunks(
    pipeline: StableDiffusionXLPipeline, text: str, made: Sequence[TextualInversion]
) -> list[Chunk]:
    """A prompt in chunks, for the first text encoder."""
    marked = mark_names(text, made)
    return split_into_chunks(pipeline.tokenizer, parse_weighted(marked.text), marked.vectors(0))


def test_vectors_take_places_and_weights_as_words_do(pipeline: StableDiffusionXLPipeline) -> None:
    """Brackets around the name count, a number behind it too, and names with signs of the syntax are whole."""
    odd = inversion("odd (v2)", 2)
    (chunk,) = chunks(pipeline, "red (embedding:odd (v2):1.5) red, [odd (v2)]", [odd])
    assert [chunk.weights[place] for place in chunk.vectors] == [1.5, 1.5, 1 / 1.1, 1 / 1.1]
    assert list(chunk.vectors) == [2, 3, 6, 7]
    assert chunk.ids.index(pipeline.tokenizer.eos_token_id) == 8
    assert torch.equal(chunk.vectors[3], odd.vectors[0][1])


@pytest.mark.parametrize(
    ("words", "count", "sizes"),
    [(70, 5, [5]), (70, 6, [0, 6]), (1, 75, [0, 75]), (0, 80, [75, 5]), (74, 75, [0, 75])],
)
def test_an_embedding_is_not_split_between_chunks(
    pipeline: StableDiffusionXLPipeline, words: int, count: int, sizes: list[int]
) -> None:
    """Unless it is longer than one."""
    found = chunks(pipeline, "red " * words + "style", [inversion("style", count)])
    assert [len(chunk.vectors) for chunk in found] == sizes


@pytest.mark.parametrize(
    "text", ["bad-hand", "restyle", "style_2", "Style", "styles", "embeddings:style2"]
)
def test_a_part_of_a_word_is_no_name(text: str) -> None:
    """Nor is one in another case."""
    assert not mark_names(text, [inversion("style", 1), inversion("bad", 1)]).marks


def test_the_longest_name_counts_and_a_suffix_belongs_to_it() -> None:
    """As people paste them."""
    both = [inversion("bad", 1), inversion("bad-hands", 1)]
    marked = mark_names("embedding:bad-hands.pt, bad; <bad>", both)
    assert [one.name for one in marked.marks.values()] == ["bad-hands", "bad"]
    assert marked.text == "{0}, {1}; {1}".format(*marked.marks)
