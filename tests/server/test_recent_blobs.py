"""The memory of the newest outputs."""

from __future__ import annotations

from atelier_server.artifacts.recent_blobs import RecentBlobs


def test_the_newest_bytes_are_remembered_within_the_capacity() -> None:
    """The oldest go first; what is dropped or too large is not there; sizes add up."""
    fresh = RecentBlobs(capacity_bytes=100)
    for name in "abcde":
        fresh.add(name, name.encode() * 25)
    assert fresh.get("a") is None
    assert fresh.get("e") == b"e" * 25
    fresh.drop("b")
    fresh.drop("b")
    fresh.add("f", b"f" * 25)
    assert fresh.get("c") == b"c" * 25
    fresh.add("huge", b"h" * 26)
    assert fresh.get("huge") is None
