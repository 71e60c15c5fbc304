"""Texts that are safe to print on a terminal."""

from __future__ import annotations


def strip_control_characters(text: str) -> str:
    """The text with control characters replaced by spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
