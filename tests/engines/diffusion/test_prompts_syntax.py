"""Weights in prompts, as they are read."""

from __future__ import annotations

import random

import pytest

from atelier_engines.diffusion.prompts import syntax
from atelier_engines.diffusion.prompts.syntax import MAX_WEIGHT, parse_plain, parse_weighted


def read(prompt: str) -> list[list[tuple[str, float]]]:
    """Text and weight of the spans, section by section; weights to nine places."""
    return [
        [(span.text, round(span.weight, 9)) for span in section]
        for section in parse_weighted(prompt)
    ]


@pytest.mark.parametrize(
    ("prompt", "spans"),
    [
        ("a (red) apple", [("a ", 1), ("red", 1.1), (" apple", 1)]),
        ("a ((red)) apple", [("a ", 1), ("red", 1.21), (" apple", 1)]),
        ("a [red] apple", [("a ", 1), ("red", 0.909090909), (" apple", 1)]),
        ("a [[red]] apple", [("a ", 1), ("red", 0.826446281), (" apple", 1)]),
        ("a (red:1.3) apple", [("a ", 1), ("red", 1.3), (" apple", 1)]),
        ("(red:.5)(blue:2)(green:1.)", [("red", 0.5), ("blue", 2), ("green", 1)]),
        ("(red : 1.3 )", [("red ", 1.3)]),
        ("(red:0)", [("red", 0)]),
        ("(a (red:1.5) apple:2)", [("a ", 2), ("red", 3), (" apple", 2)]),
        ("([red])", [("red", 1)]),
        ("(time: noon:1.2)", [("time: noon", 1.2)]),
        ("((red) (apple))", [("red", 1.21), (" ", 1.1), ("apple", 1.21)]),
    ],
)
def test_brackets_are_weights(prompt: str, spans: list[tuple[str, float]]) -> None:
    """Nested ones multiply."""
    assert read(prompt) == [spans]


@pytest.mark.parametrize(
    ("prompt", "spans"),
    [
        (r"a \(red\) apple", [("a (red) apple", 1)]),
        (r"a \[red\] apple", [("a [red] apple", 1)]),
        (r"(a \(red\) apple:1.5)", [("a (red) apple", 1.5)]),
        (r"(red\)", [("red)", 1.1)]),
        (r"C:\new \\ \n", [(r"C:\new \\ \n", 1)]),
    ],
)
def test_a_backslash_makes_a_bracket_a_sign(prompt: str, spans: list[tuple[str, float]]) -> None:
    """Before anything else it stands for itself."""
    assert read(prompt) == [spans]


@pytest.mark.parametrize(
    ("prompt", "spans"),
    [
        ("(red apple", [("red apple", 1.1)]),
        ("a [red apple", [("a ", 1), ("red apple", 0.909090909)]),
        ("((red) apple", [("red", 1.21), (" apple", 1.1)]),
        ("red) apple]", [("red) apple]", 1)]),
        ("red:1.3) apple", [("red:1.3) apple", 1)]),
        ("(red [and) blue]", [("red ", 1.1), ("and", 1), (" blue", 0.909090909)]),
        ("() red", [(" red", 1)]),
        ("happy :)", [("happy :)", 1)]),
        ("[red:blue:0.5]", [("red:blue:0.5", 0.909090909)]),
        ("", []),
        ("((", []),
    ],
)
def test_brackets_that_do_not_match_lose_no_words(
    prompt: str, spans: list[tuple[str, float]]
) -> None:
    """The open ones reach to the end, and the others are signs."""
    assert read(prompt) == [spans]


@pytest.mark.parametrize("number", ["-1", "5.01", "30", "9" * 400, "1.2.3", "1e1", "x", "", "٣"])
def test_a_number_that_is_no_weight_is_a_word(number: str) -> None:
    """A clock (at 12:30) is emphasised and not multiplied by thirty."""
    assert read(f"(at 12:{number})") == [[(f"at 12:{number}", 1.1)]]


def test_weights_are_bounded_in_nests_too() -> None:
    """However many brackets there are, and in whichever order."""
    (((span,),)) = parse_weighted("(((red:5):5):5)")
    assert span.weight == MAX_WEIGHT
    (((span,),)) = parse_weighted("(" * 900 + "red" + ":5)" * 900)
    assert span.weight == MAX_WEIGHT
    (((span,),)) = parse_weighted("[" * 900 + "red")
    assert 0 <= span.weight < 1e-6
    (((span,),)) = parse_weighted("(" * 900 + "red" + ":5)" * 450 + ":0)")
    assert span.weight == 0


@pytest.mark.parametrize(
    ("prompt", "sections"),
    [
        ("red BREAK blue", [[("red ", 1)], [(" blue", 1)]]),
        ("(red BREAK blue:1.5) sky", [[("red ", 1.5)], [(" blue", 1.5), (" sky", 1)]]),
        ("sky (red BREAK blue:1.5)", [[("sky ", 1), ("red ", 1.5)], [(" blue", 1.5)]]),
        ("red BREAK(blue)BREAK sky", [[("red ", 1)], [("blue", 1.1)], [(" sky", 1)]]),
        ("BREAK red BREAK BREAK blue BREAK", [[(" red ", 1)], [(" blue ", 1)]]),
        ("BREAK", [[]]),
        ("a BREAKFAST, OUTBREAK, break", [[("a BREAKFAST, OUTBREAK, break", 1)]]),
    ],
)
def test_break_begins_a_section(prompt: str, sections: list[list[tuple[str, float]]]) -> None:
    """As a word of its own, in capitals; sections without words are none."""
    assert read(prompt) == sections


@pytest.mark.parametrize(
    "prompt", ["a red apple", "  C:\\x : 1.2, \t naïve — 猫 🍎!\n", " ", "B", "\x1c"]
)
def test_a_prompt_without_brackets_stays_as_it_is(prompt: str) -> None:
    """To the last blank, in one piece."""
    assert parse_weighted(prompt) == parse_plain(prompt)


def test_words_are_cut_only_where_the_weight_changes() -> None:
    """A weight of 1 and an escape leave a word whole."""
    assert read(r"super(man:1) \(ok\)") == [[("superman (ok)", 1)]]


def test_in_plain_syntax_everything_is_words() -> None:
    """Brackets, backslashes and BREAK too."""
    prompt = r"(red:1.3) [blue] \( BREAK"
    assert parse_plain(prompt) == ((syntax.WeightedSpan(text=prompt),),)


def test_any_text_is_a_prompt_and_keeps_its_words() -> None:
    """Whatever signs stand in whichever order."""
    dice = random.Random(7)  # noqa: S311 (no secret)
    signs = ["(", ")", "[", "]", "\\", ":", "1.2", "BREAK", "B", " ", "\n", ".", "-", "word"]
    for _ in range(3000):
        prompt = "".join(dice.choices(signs, k=dice.randrange(40)))
        sections = parse_weighted(prompt)
        text = "".join(span.text for section in sections for span in section)
        assert text.count("word") == prompt.count("word"), prompt
        assert all(0 <= span.weight <= MAX_WEIGHT for section in sections for span in section)
