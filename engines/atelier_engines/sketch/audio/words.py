"""Reads which audio a prompt asks for: names, and words before them that say how loud, how far and how fast."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "rain": ("raining", "rainy", "rainfall", "raindrops", "drizzle", "downpour", "shower"),
    "wind": ("winds", "windy", "breeze", "gale", "gust", "gusts", "blizzard"),
    "waves": ("wave", "sea", "ocean", "surf", "shore", "beach"),
    "thunder": ("thunderstorm", "thunderclap", "lightning", "rumble"),
    "fire": ("campfire", "fireplace", "bonfire", "flames", "crackling", "burning"),
    "stream": ("water", "brook", "creek", "river", "waterfall", "fountain"),
    "bell": ("bells", "gong", "church"),
    "chime": ("chimes", "glockenspiel", "jingle"),
    "bird": ("birds", "birdsong", "chirp", "chirping", "chirps", "tweet"),
    "cricket": ("crickets", "cicada", "cicadas"),
    "drum": ("drums", "drumming", "drumbeat", "kick", "beat"),
    "click": ("clicks", "clicking", "clock", "tick", "ticking", "typing", "keyboard"),
    "footsteps": ("footstep", "steps", "walking", "walk", "running"),
    "heartbeat": ("heart", "heartbeats", "pulse"),
    "engine": ("motor", "car", "truck", "tractor", "machine", "machinery", "generator"),
    "drone": ("drones", "hum", "humming", "buzz", "ambient"),
    "siren": ("sirens", "alarm", "ambulance", "police"),
    "static": ("noise", "hiss", "radio"),
}
"""Names, each with words that mean the same here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One thing to be heard."""

    name: str
    """One of the names of SYNONYMS."""
    level: float = 1.0
    """Factor of its amplitude."""
    far: bool = False
    """Whether it lacks high frequencies."""
    pace: float = 1.0
    """Factor of how often it happens."""
    words: tuple[str, ...] = ()
    """The words that said how."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read in a prompt."""

    requests: tuple[Request, ...]
    unknown: tuple[str, ...]
    """Words that mean nothing here, without articles and the like."""

    def describe(self) -> str:
        """For people: what is heard, and which words mean nothing here."""
        heard = [
            f"{one.name} ({', '.join(one.words)})" if one.words else one.name
            for one in self.requests
        ]
        parts = [f"heard are {', '.join(heard)}"] if heard else []
        if self.unknown:
            parts.append(f"not understood: {', '.join(self.unknown)}")
        return "; ".join(parts)


_LEVELS = {
    **dict.fromkeys(("gentle", "soft", "softly", "light", "quiet", "faint", "calm"), 0.5),
    **dict.fromkeys(("loud", "heavy", "strong", "big", "hard", "roaring", "howling"), 1.8),
}
_FAR = frozenset({"distant", "far", "faraway", "away", "muffled"})
_FAR_LEVEL = 0.35
_PACES = {
    **dict.fromkeys(("slow", "slowly", "occasional", "single", "rare", "sparse"), 0.5),
    **dict.fromkeys(("fast", "quick", "rapid", "many", "busy", "frequent"), 2.0),
}
_WITHOUT = frozenset({"no", "without", "not"})
_BREAKS = frozenset({"and", "with", "while", "but", "then", "over"})
_FILLERS = frozenset(
    {
        *("a", "an", "the", "of", "in", "on", "at", "to", "by", "from", "into", "onto", "under"),
        *("near", "as", "is", "are", "it", "its", "some", "very", "for", "this", "that", "audio"),
        *("one", "two", "three", "recording", "hear", "heard", "through", "behind", "off", "up"),
        *("down", "out", "noises"),
    }
)
_FILLER_START = "soun"  # d, ds, ding, dscape
_NAMES = {word: name for name, words in SYNONYMS.items() for word in (name, *words)}
VOCABULARY = frozenset({*_NAMES, *_LEVELS, *_FAR, *_PACES})
"""Every word that changes what is heard."""


def read_prompt(prompt: str) -> Reading:
    """What the prompt asks for, each name once, in the order of its words."""
    found: dict[str, Request] = {}
    unknown: list[str] = []
    coming = Request(name="")
    is_excluded = False
    for token in re.findall(r"[^\W\d_]+|[,.;:]", prompt.lower()):
        if token in _WITHOUT:
            is_excluded = True
        elif token in _BREAKS or not token.isalpha():
            coming, is_excluded = Request(name=""), False
        elif token in _NAMES:
            name = _NAMES[token]
            if not is_excluded:
                found.setdefault(name, replace(coming, name=name))
            coming, is_excluded = Request(name=""), False
        elif token in VOCABULARY:
            coming = _qualify(coming, token)
        elif not _is_filler(token) and token not in unknown:
            unknown.append(token)
    return Reading(tuple(found.values()), tuple(unknown))


def _is_filler(token: str) -> bool:
    return token in _FILLERS or token.startswith(_FILLER_START)


def _qualify(request: Request, word: str) -> Request:
    said = replace(request, words=(*request.words, word))
    if word in _FAR:
        return replace(said, far=True, level=request.level * _FAR_LEVEL)
    if word in _LEVELS:
        return replace(said, level=request.level * _LEVELS[word])
    return replace(said, pace=request.pace * _PACES[word])
