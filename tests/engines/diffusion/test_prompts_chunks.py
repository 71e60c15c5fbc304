"""Prompts in chunks that a text encoder can read."""

from __future__ import annotations

import pytest
from diffusers import StableDiffusionXLPipeline
from transformers import CLIPTokenizer

from atelier_engines.diffusion.prompts.chunks import Chunk, empty_chunk, split_into_chunks
from atelier_engines.diffusion.prompts.syntax import parse_weighted


@pytest.fixture(scope="module")
def tokenizer(pipeline: StableDiffusionXLPipeline) -> CLIPTokenizer:
    """The one that pads with something else than the end."""
    found: CLIPTokenizer = pipeline.tokenizer_2
    return found


def read(tokenizer: CLIPTokenizer, prompt: str) -> list[Chunk]:
    """The chunks of a prompt, each of the length that the encoder reads."""
    found = split_into_chunks(tokenizer, parse_weighted(prompt))
    for chunk in found:
        assert len(chunk.ids) == len(chunk.weights) == 77
        assert chunk.ids[0] == tokenizer.bos_token_id
        assert chunk.weights[0] == 1
    return found


def words(tokenizer: CLIPTokenizer, chunk: Chunk) -> str:
    """What stands between start and end."""
    end = chunk.ids.index(tokenizer.eos_token_id)
    assert set(chunk.ids[end + 1 :]) <= {tokenizer.pad_token_id}
    assert set(chunk.weights[end:]) == {1}
    return str(tokenizer.decode(list(chunk.ids[1:end]))).strip()


@pytest.mark.parametrize("prompt", ["", "  ", "a red apple", "naïve — 猫 🍎!", "red " * 75])
def test_a_short_prompt_is_what_the_tokenizer_makes_of_it(
    tokenizer: CLIPTokenizer, prompt: str
) -> None:
    """Start, words, end and padding."""
    wanted = tokenizer(prompt, padding="max_length", max_length=77, truncation=True).input_ids
    (chunk,) = read(tokenizer, prompt)
    assert list(chunk.ids) == wanted
    assert not chunk.is_weighted
    assert empty_chunk(tokenizer) == read(tokenizer, "")[0]


@pytest.mark.parametrize(("count", "sizes"), [(75, [75]), (76, [75, 1]), (151, [75, 75, 1])])
def test_a_new_chunk_begins_when_one_is_full(
    tokenizer: CLIPTokenizer, count: int, sizes: list[int]
) -> None:
    """Words of one token fill chunks to the last place."""
    found = read(tokenizer, "red " * count)
    assert [words(tokenizer, chunk).count("red") for chunk in found] == sizes


def test_a_chunk_ends_behind_a_comma_near_its_end(tokenizer: CLIPTokenizer) -> None:
    """And not within the phrase that follows it; a comma far away does not count."""
    found = read(tokenizer, "red " * 54 + "red, " + "red " * 20)
    assert [words(tokenizer, chunk).count("red") for chunk in found] == [55, 20]
    found = read(tokenizer, "red " * 53 + "red, " + "red " * 21)
    assert [words(tokenizer, chunk).count("red") for chunk in found] == [54 + 20, 1]
    assert len(read(tokenizer, "red " * 60 + "red, " + "red " * 13)) == 1


def test_a_word_is_not_cut_in_two(tokenizer: CLIPTokenizer) -> None:
    """Unless it is longer than there is room to look for its beginning."""
    found = read(tokenizer, "red " * 73 + "xyz")
    assert [words(tokenizer, chunk) for chunk in found] == [("red " * 73).strip(), "xyz"]
    found = read(tokenizer, "red " * 10 + "xyz" * 50)
    assert [chunk.ids.index(tokenizer.eos_token_id) - 1 for chunk in found] == [75, 75, 10]


def test_no_token_is_lost_or_moved(tokenizer: CLIPTokenizer) -> None:
    """Whatever the lengths of words and phrases."""
    prompt = ", ".join("xyz" * (size % 7 + 1) + " red" * (size % 5) for size in range(60))
    whole = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
    found = read(tokenizer, prompt)
    assert len(found) > 3
    ends = [chunk.ids.index(tokenizer.eos_token_id) for chunk in found]
    parts = [chunk.ids[1:end] for chunk, end in zip(found, ends, strict=True)]
    assert [index for part in parts for index in part] == whole


def test_each_token_has_the_weight_of_its_words(tokenizer: CLIPTokenizer) -> None:
    """Across chunks too."""
    first, second = read(tokenizer, "red " * 70 + "(" + "red " * 10 + ":1.5) red")
    assert first.weights == (1,) * 71 + (1.5,) * 5 + (1,)
    assert second.weights == (1,) + (1.5,) * 5 + (1,) * 71
    assert first.is_weighted


def test_break_begins_a_chunk(tokenizer: CLIPTokenizer) -> None:
    """However much room there is."""
    found = read(tokenizer, "red BREAK apple")
    assert [words(tokenizer, chunk) for chunk in found] == ["red", "apple"]


def test_two_thousand_signs_are_a_bounded_number_of_chunks(tokenizer: CLIPTokenizer) -> None:
    """The worst that a prompt of full length can ask for."""
    assert len(read(tokenizer, "🍎" * 2000)) == 107
    assert len(read(tokenizer, "a BREAK " * 250)) == 250
