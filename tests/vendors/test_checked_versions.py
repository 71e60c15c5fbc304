"""Every page of an engine says against which version of the vendor's SDK it was checked, and that is the locked one."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

SDKS = {
    "fal": ("fal-client", "dev"),
    "openai": ("openai", "dev"),
    "replicate": ("replicate", "replicate"),
    "runpod": ("runpod", "runpod"),
    "vastai": ("vastai", "vastai"),
}
"""The SDK of each vendor that has one, and the lock that it stands in."""


@pytest.mark.parametrize("engine", SDKS)
def test_the_page_names_the_version_that_the_tests_ran_with(engine: str) -> None:
    """A newer SDK demands another look: at its types, and at the page."""
    package, lock = SDKS[engine]
    page = (ROOT / "docs" / "engines" / f"{engine}.md").read_text()
    locked = (ROOT / "requirements" / f"{lock}.txt").read_text()
    (version,) = re.findall(rf"^{package}==(\S+)", locked, re.MULTILINE)
    (said,) = re.findall(rf"Checked against `{package}` (\S+) on 20\d\d-\d\d-\d\d", page)
    assert said == version
