"""HTML for notebooks: images, audio players, contact sheets and progress; everything from outside is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

_CELL = "display:inline-block;margin:0 8px 8px 0;vertical-align:top;max-width:100%"
_CAPTION = "font-size:smaller;opacity:.75"
Row = tuple[str, str]
"""The name and the text of one line of a recipe."""


def image_tag(media_type: str, data: bytes, description: str) -> str:
    """An image with its bytes in the page."""
    return (
        f'<img src="{_data_uri(media_type, data)}" alt="{escape(description)}"'
        ' style="max-width:100%;height:auto">'
    )


def audio_tag(media_type: str, data: bytes) -> str:
    """A player with the bytes of the audio in the page."""
    return f'<audio controls preload="metadata" src="{_data_uri(media_type, data)}"></audio>'


def placeholder_tag(text: str) -> str:
    """A box with a text, where there are no bytes to show."""
    return (
        '<div style="padding:2em;border:1px dashed;opacity:.6;text-align:center">'
        f"{escape(text)}</div>"
    )


def figure_tag(body: str, caption: str) -> str:
    """One cell of a contact sheet: HTML above a caption of plain text."""
    return (
        f'<figure style="{_CELL}">{body}'
        f'<figcaption style="{_CAPTION}">{escape(caption)}</figcaption></figure>'
    )


def contact_sheet(figures: Iterable[str], title: str, rows: Sequence[Row]) -> str:
    """All outputs side by side, and the recipe below, folded."""
    lines = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(text)}</td></tr>'
        for name, text in rows
    )
    return (
        f"<div><div>{''.join(figures)}</div><details><summary>{escape(title)}</summary>"
        f"<table>{lines}</table></details></div>"
    )


def progress_bar(fraction: float, text: str, preview: str = "") -> str:
    """A bar of 0 to 1 with a text beside it, and HTML of a preview below."""
    return (
        f'<div><progress max="1" value="{fraction:.3f}" style="width:16em"></progress> '
        f'<span style="font-variant-numeric:tabular-nums">{escape(text)}</span>'
        f"<div>{preview}</div></div>"
    )


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{escape(media_type)};base64,{base64.b64encode(data).decode()}"
