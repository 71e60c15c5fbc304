"""What two prompts must have in common before their similarity counts.

Sentence embeddings are close for texts that differ in one decisive word, or in the order of words. The cosine
similarity by MiniLM (all-MiniLM-L6-v2) of "a car passes left to right" and "a car passes right to left" is 0.99, of
"footsteps going up stairs" and "… down stairs" 0.97, of "loud thunder" and "quiet thunder" 0.92; that of "a dog
barks" and "a dog is barking" is 0.92, too.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_WORD = re.compile(r"(?:(?<!\w)[-+])?\d+(?:[.,:/]\d+)*|[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_UNITS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBERS = {
    **{word: str(value) for value, word in enumerate(_UNITS.split())},
    **{word: str(20 + 10 * value) for value, word in enumerate(_TENS.split())},
    "single": "1",
    "once": "1",
    "pair": "2",
    "couple": "2",
    "double": "2",
    "twice": "2",
    "both": "2",
    "thrice": "3",
    "triple": "3",
    "dozen": "12",
}
_QUANTITY_WORDS = """
    half quarter hundred hundreds thousand thousands million millions dozens few several some many lots multiple all
    every each most more less fewer first second third fourth fifth last
"""
_QUANTITIES = frozenset(_QUANTITY_WORDS.split())
"""Words of amount and order that have no one number: equal only to themselves."""
_CONTRAST_WORDS = """
    left right up down upward downward high low higher lower rising falling loud quiet soft louder quieter fast slow
    faster slower quick quickly slowly near far close distant nearby approaching departing coming going arriving leaving
    in out inside outside indoor outdoor indoors outdoors before after then while until first start starts
    starting stop stops stopping begin begins beginning end ends ending open opens opening closes closed closing off
    over under above below front behind big small large little long short heavy light deep shallow hard gentle strong
    weak calm stormy wet dry hot cold warm dark bright happy sad angry man woman men women male female boy girl child
    adult old young day night morning evening summer winter spring autumn
"""
_CONTRASTS = frozenset(_CONTRAST_WORDS.split())
"""Words that have an opposite, or order things: two prompts have the same of them, in the same order."""
_NEGATION_WORDS = """
    no not non none never neither nor nothing nobody nowhere without cannot lacking lack lacks minus except excluding
    exclude absent absence free avoid avoiding hardly barely scarcely instead but only just
"""
_NEGATIONS = frozenset(_NEGATION_WORDS.split())
"""Words that take something away; what they take it from, an embedding does not tell."""


@dataclass(frozen=True, slots=True)
class Wording:
    """What a prompt says word by word."""

    text: str
    """In lower case, with single spaces and without a full stop: prompts that are equal so are the same prompt."""
    words: tuple[str, ...]
    """Its words and numbers, sorted."""
    decisive: tuple[str, ...]
    """Its numbers, words of amount and words that have an opposite, in order."""
    comparable: bool
    """Whether an embedding may compare it: it is in English letters and takes nothing away."""


@lru_cache(maxsize=1024)
def read(prompt: str) -> Wording:
    """The wording of a prompt."""
    folded = unicodedata.normalize("NFKC", prompt).casefold().replace("\u2019", "'")
    text = " ".join(folded.split()).rstrip(".! ")
    words: list[str] = _WORD.findall(text)
    decisive = (_NUMBERS.get(word, word) for word in words if _is_decisive(word))
    return Wording(
        text=text,
        words=tuple(sorted(words)),
        decisive=tuple(decisive),
        comparable=bool(words) and text.isascii() and not any(map(_is_negation, words)),
    )


def may_be_similar(one: Wording, other: Wording) -> bool:
    """Whether the similarity of two prompts counts: neither takes anything away, decisive words and order are equal."""
    if not (one.comparable and other.comparable) or one.decisive != other.decisive:
        return False
    return one.words != other.words or one.text == other.text  # a man bites a dog


def _is_decisive(word: str) -> bool:
    known = word in _NUMBERS or word in _QUANTITIES or word in _CONTRASTS
    return known or word[-1].isdigit()


def _is_negation(word: str) -> bool:
    """`n't`, and what ends in `less`: windless, voiceless; one that is none, such as `endless`, costs a clip."""
    return word in _NEGATIONS or word.endswith(("n't", "less"))
