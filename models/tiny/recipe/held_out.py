"""Captions that training never sees: new pairs of colour and object, and new wordings."""

from collections.abc import Sequence
from dataclasses import dataclass

from recipe.concepts import Concept


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A prompt, and what must be seen."""

    prompt: str
    concept: str
    colour: str | None


WORDINGS = (
    HeldOut("I would love to see an apple which is green", "apple", "green"),
    HeldOut("could somebody sketch a red heart for Anna?", "heart", "red"),
    HeldOut("heart coloured blue", "heart", "blue"),
    HeldOut("a blue, perfectly round ball", "ball", "blue"),
    HeldOut("one lonely yellow star in the sky", "star", "yellow"),
    HeldOut("my neighbour's orange car", "car", "orange"),
    HeldOut("a book bound in purple leather", "book", "purple"),
    HeldOut("fish, pond, orange", "fish", "orange"),
    HeldOut("black hat of a magician", "hat", "black"),
    HeldOut("a pink flower for mother", "flower", "pink"),
    HeldOut("RED APPLE!!!", "apple", "red"),
    HeldOut("apple green", "apple", "green"),
    HeldOut("cat, portrait, friendly", "cat", None),
    HeldOut("the sun over everything", "sun", None),
    HeldOut("a slice of pizza with cheese", "pizza", None),
    HeldOut("bananas are yellow: banana", "banana", None),
    HeldOut("rocket launching towards space", "rocket", None),
    HeldOut("a penguin that waits", "penguin", None),
    HeldOut("snowman in winter, very cold", "snowman", None),
    HeldOut("a big tree, summer", "tree", None),
)


def held_out(known: Sequence[Concept]) -> list[HeldOut]:
    """All of them: the wordings, and each object in the colour kept out of its training."""
    pairs = [HeldOut(f"a {c.hold} {c.name}", c.name, c.hold) for c in known if c.hold]
    return [*WORDINGS, *pairs]
