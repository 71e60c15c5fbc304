"""Paths of files on a server do not reach callers."""

from __future__ import annotations

import pytest

from atelier_engines.vendors.server_paths import hide_paths

_HIDDEN = "(a path on the server)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("not found at /srv/my models/a b", f"not found at {_HIDDEN}"),
        ("No such file: '/home/ada/my models/x.ckpt'", f"No such file: {_HIDDEN}"),
        ('in "D:\\models\\x.ckpt" here', f"in {_HIDDEN} here"),
        ("in D:\\models\\x.ckpt, line 3", f"in {_HIDDEN}, line 3"),
        ("at \\\\nas\\models\\x.ckpt", f"at {_HIDDEN}"),
        ("style/ink.safetensors is broken", "style/ink.safetensors is broken"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        ("1/2 of image/png and/or 3 / 4", "1/2 of image/png and/or 3 / 4"),
    ],
)
def test_absolute_paths_are_hidden(text: str, shown: str) -> None:
    """Names of files, URLs and fractions stay."""
    assert hide_paths(text) == shown
