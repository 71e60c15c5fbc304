"""Prepares texts for the voice, whose reader takes long words badly, and cuts what it makes of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_MAX_WORD = 40
"""Characters without a space: the time of the reader grows with the cube of a word's parts."""
_LONG_WORD = re.compile(rf"\S{{{_MAX_WORD + 1},}}")
_LETTERS = re.compile(r"\W*([^\W\d_]+)\W*")
_PIECE = re.compile(rf"\S{{1,{_MAX_WORD}}}(?:(?<=[^\w\s])|$)|\S{{1,{_MAX_WORD}}}")
"""As many characters as fit, up to one that ends a word if there is any."""
_MAX_DIGITS = 36
"""The reader has no name for a number of more: it knows decillions."""
_LONG_NUMBER = re.compile(rf"\d(?:,?\d){{{_MAX_DIGITS},}}")
_MAX_PHONEMES = 400
"""Of a sentence: half a minute, so that memory and the time until a cancellation are bounded."""


def break_long_words(text: str) -> str:
    """The text as the reader takes it: long words in pieces, and what it cannot count digit by digit."""
    counted = "".join(map(_write_digit, text))
    spelled = _LONG_NUMBER.sub(lambda found: " ".join(found[0].replace(",", "")), counted)
    return _LONG_WORD.sub(lambda found: _break(found[0]), spelled)


def split_phonemes(sentence: str) -> Iterator[str]:
    """The phonemes of a sentence in parts of bounded length, which end with a word where one does."""
    while len(sentence) > _MAX_PHONEMES:
        space = sentence.rfind(" ", 1, _MAX_PHONEMES)
        end = space if space > 0 else _MAX_PHONEMES
        yield sentence[:end]
        sentence = sentence[end:].lstrip()
    yield sentence


def has_words(phonemes: str) -> bool:
    """Whether there is anything but punctuation, which the voice would say as a breath."""
    return any(sound.isalpha() for sound in phonemes)


def _break(word: str) -> str:
    """The word in pieces; it is one part, and stays so, if it has only letters and no capital begins another."""
    letters = _LETTERS.fullmatch(word)
    if letters and (letters[1][1:].islower() or letters[1].isupper()):
        return word
    return " ".join(_PIECE.findall(word))


def _write_digit(character: str) -> str:
    """A digit that is none of a decimal system, as in Ethiopic, in the usual form; else the character."""
    if not character.isdigit() or unicodedata.normalize("NFKC", character).isdecimal():
        return character
    return str(unicodedata.digit(character))
