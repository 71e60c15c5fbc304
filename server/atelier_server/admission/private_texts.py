"""Takes out of the text of an error what it quotes of a caller's request."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from google.protobuf.struct_pb2 import Value

from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_server.admission.media_sources import list_media_sources

_WORD = re.compile(r"[\u3040-\u9fff\uac00-\ud7af]|[^\W_]+")
"""A word, or a character of a script that does not separate words."""
_RUN = 3  # so many words in a row are a quotation


def hide_quotations(request: GenerateRequest, text: str) -> str:
    """The text with an ellipsis for each quotation of the request's private texts."""
    return redact(text, list_private_texts(request))


def list_private_texts(request: GenerateRequest) -> Iterator[str]:
    """What a request says in words, and the addresses that it names, which may hold a key."""
    task = request.image if request.WhichOneof("task") == "image" else request.audio
    yield task.prompt
    yield task.negative_prompt
    yield from (source.uri for source in list_media_sources(request).values())
    yield from _list_strings(Value(struct_value=request.options))


def redact(text: str, private: Iterable[str]) -> str:
    """The text with an ellipsis for each quotation of a private text.

    A quotation is the whole of it, or any three of its words in a row, whatever is between them and however they are
    capitalized; the last word may be cut.
    """
    found = list(_WORD.finditer(text))
    words = [word.group().casefold() for word in found]
    hidden = [False] * len(words)
    for quoted in private:
        _mark(words, [word.casefold() for word in _WORD.findall(quoted)], hidden)
    parts, end = [], 0
    for is_hidden, group in groupby(zip(hidden, found, strict=True), key=lambda pair: pair[0]):
        if is_hidden:
            matches = [match for _, match in group]
            parts += [text[end : matches[0].start()], "…"]
            end = matches[-1].end()
    return "".join([*parts, text[end:]])


def _mark(words: Sequence[str], quoted: Sequence[str], hidden: list[bool]) -> None:
    """Mark those of the words that stand in a run of the quoted ones."""
    size = min(_RUN, len(quoted))
    if not size:
        return
    followers: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for start in range(len(quoted) - size + 1):
        followers[tuple(quoted[start : start + size - 1])].add(quoted[start + size - 1])
    for start in range(len(words) - size + 1):
        expected = followers.get(tuple(words[start : start + size - 1]), ())
        last = words[start + size - 1]
        if last in expected or (size > 1 and any(word.startswith(last) for word in expected)):
            hidden[start : start + size] = [True] * size


def _list_strings(value: Value) -> Iterator[str]:
    yield value.string_value
    for field in value.struct_value.fields.values():
        yield from _list_strings(field)
    for item in value.list_value.values:
        yield from _list_strings(item)
