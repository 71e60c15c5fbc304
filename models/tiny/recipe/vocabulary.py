"""The words that the model was trained to follow: names, colours, and how captions ask for them."""

import re

from recipe import captions, colours, concepts

_WORD = re.compile(r"[a-z]+")
STYLES = ("flat", "noto")
_GRAMMAR = ("a", "an", "the", "one", "in", "that", "is")
"""Words that captions put between the others."""


def known_words() -> list[str]:
    """Every word of a caption, in alphabetical order; names of what is not drawn are left out."""
    drawn = concepts.load(*concepts.DRAWN)
    texts = [
        *(name for concept in drawn for name in concept.names),
        *colours.PALETTE,
        *(word for words in captions.COLOUR_WORDS.values() for word in words),
        *captions.ADJECTIVES,
        *captions.FRAMES,
        *captions.STYLE_FRAMES,
        *captions.FILLERS,
        *STYLES,
        *_GRAMMAR,
    ]
    return sorted({word for text in texts for word in _WORD.findall(text.lower())})
