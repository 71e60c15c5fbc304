"""Words for an image: many ways to ask for the same thing, drawn at random."""

import random
from collections.abc import Sequence

from recipe.concepts import Concept
from recipe.data import TrainingImage

COLOUR_WORDS = {"grey": ("grey", "gray"), "purple": ("purple", "purple", "violet")}
"""Colours that go by more than one word."""

ADJECTIVES = (
    "shiny", "small", "big", "cute", "simple", "nice", "little", "beautiful", "bright", "tiny",
    "large", "pretty", "lovely", "single", "cartoon", "plain", "happy", "funny", "colourful",
)  # fmt: skip

FRAMES = (
    "{}", "{}", "{}", "{}", "a picture of {}", "an icon of {}", "a drawing of {}", "{} icon",
    "an image of {}", "{} on white", "{} on a white background", "{}, white background", "{} emoji",
    "an illustration of {}", "draw {}", "here is {}", "{}.", "sticker of {}", "{}, simple drawing",
)  # fmt: skip

STYLE_FRAMES = (
    "{}, {} style", "{}, {}", "{} in {} style", "{} icon, {}", "{}, {} design", "{}, {} picture",
    "{1} style {0}", "{1} {0}", "{0}, {1} emoji",
)  # fmt: skip

FILLERS = (
    "please", "me", "show", "want", "very", "with", "in", "the", "and", "of", "my", "your", "some",
    "great", "this", "that", "is", "for", "to", "i", "we", "you", "it", "on", "at", "good", "best",
    "new", "old", "high", "quality", "detailed", "clean", "art", "vector", "logo", "clip", "symbol",
    "just", "only", "make", "paint", "create", "generate", "render", "style", "background", "empty",
    "middle", "centre", "front", "view", "like", "real", "photo", "graphic", "design", "modern",
    "minimal", "soft", "fresh", "cool", "warm", "magic", "perfect", "amazing", "there", "can",
    "would", "see", "have", "give", "look", "looking", "object", "thing", "colour", "color",
)  # fmt: skip


USUAL_STYLE = "flat"
"""The style of a caption that names none."""

_PAINTED, _MOVED = 0.25, 0.08


def caption(image: TrainingImage, concept: Concept, rng: random.Random) -> str:
    """One way to ask for this image; what it says is always right.

    Every style but the usual one is always named, so that a caption without a style means one
    drawing and not the mean of several.
    """
    name = concept.name if rng.random() < 0.6 else rng.choice(concept.names)
    said = _said_colour(image, concept, rng)
    phrase = _phrase(name, said, rng)
    usual = image.style == USUAL_STYLE
    if usual and rng.random() < 0.75:
        words = rng.choice(FRAMES).format(phrase)
    else:
        framed = phrase if rng.random() < 0.7 else rng.choice(FRAMES).format(phrase)
        words = rng.choice(STYLE_FRAMES).format(framed, image.style)
    return _filled(words, rng) if rng.random() < 0.2 else words


def _said_colour(image: TrainingImage, concept: Concept, rng: random.Random) -> str | None:
    if image.colour is not None:
        return rng.choice(COLOUR_WORDS.get(image.colour, (image.colour,)))
    natural = None if concept.paint or image.style != USUAL_STYLE else concept.colour
    return natural if rng.random() < 0.3 else None


def _phrase(name: str, colour: str | None, rng: random.Random) -> str:
    adjective = rng.choice(ADJECTIVES) if rng.random() < 0.3 else None
    form = rng.random()
    if colour is not None and form < 0.25:
        thing = _joined(rng.choice(("a", "the", "")), adjective, name)
        return rng.choice(("{}, {}", "{} in {}", "{} that is {}", "{} {}")).format(thing, colour)
    article = "the" if form < 0.35 else "" if form < 0.6 else "one" if form < 0.63 else "a"
    return _joined(article, adjective, *((colour,) if colour else ()), name)


def _joined(article: str, *words: str | None) -> str:
    said = " ".join(word for word in words if word)
    if article == "a" and said[0] in "aeiou":
        article = "an"
    return f"{article} {said}".strip()


def _filled(words: str, rng: random.Random) -> str:
    fillers = " ".join(rng.choices(FILLERS, k=rng.randint(1, 4)))
    return rng.choice(("{fillers} {words}", "{words} {fillers}", "{words}, {fillers}")).format_map(
        {"fillers": fillers, "words": words}
    )


def weights(images: Sequence[TrainingImage]) -> list[float]:
    """How often to show each image.

    Held-out ones never; painted ones less than natural ones, for there are ten of each; and mostly
    the first placement, for to learn one place well takes less time than three.
    """
    return [_weight(image) for image in images]


def _weight(image: TrainingImage) -> float:
    if image.held:
        return 0.0
    often = 1.0 if image.placement == 0 else _MOVED
    return often if image.colour is None else often * _PAINTED
