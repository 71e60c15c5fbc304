"""The newest outputs are held in memory."""

from __future__ import annotations

from atelier_server.artifacts.artifact_store import RecentBlobs


def test_the_newest_bytes_are_held_up_to_the_maximum() -> None:
    """The oldest go first; what is dropped or too large is not there; sizes add up."""
    recent = RecentBlobs(max_bytes=100)
    for name in "abcde":
        recent.add(name, name.encode() * 25)
    assert recent.get("a") is None
    assert recent.get("e") == b"e" * 25
    recent.drop("b")
    recent.drop("b")
    recent.add("f", b"f" * 25)
    assert recent.get("c") == b"c" * 25
    recent.add("huge", b"h" * 26)
    assert recent.get("huge") is None
