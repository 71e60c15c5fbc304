"""The browser that tests of the playground drive, and where the page is."""

from __future__ import annotations

import shutil

from tests.conftest import ROOT

NAMES = ("chromium-headless-shell", "chromium", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
"""Path of the first of them that is installed; None if none is."""
PLAYGROUND = ROOT / "clients" / "playground"
PAGE = ROOT / "server" / "atelier_server" / "playground" / "index.html"
"""What the build makes."""
