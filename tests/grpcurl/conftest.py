"""The real grpcurl, as somebody without our client would use it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conftest import ROOT, RunningServer

GRPCURL = ROOT / ".tools" / "bin" / "grpcurl"
_SECONDS = 300.0

needs_grpcurl = pytest.mark.skipif(
    not GRPCURL.exists(),
    reason="there is no grpcurl: `make grpcurl` builds it where Go is installed",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a command printed, and how it ended."""

    status: int
    text: str
    error: str

    def messages(self) -> list[dict[str, Any]]:
        """The JSON objects that it printed, one after the other."""
        decoder = json.JSONDecoder()
        text, found = self.text.strip(), []
        while text:
            message, end = decoder.raw_decode(text)
            found.append(message)
            text = text[end:].lstrip()
        return found

    def message(self) -> dict[str, Any]:
        """The only JSON object that it printed."""
        assert self.status == 0, self.error
        (message,) = self.messages()
        return message


Grpcurl = Callable[..., Ran]


def run_grpcurl(arguments: list[str]) -> Ran:
    """Run it with these arguments."""
    ran = subprocess.run(
        [GRPCURL, *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    return Ran(status=ran.returncode, text=ran.stdout, error=ran.stderr)


@pytest.fixture
def grpcurl(server: RunningServer) -> Grpcurl:
    """Runs it against the shared server: options, then what to ask for, then a request as JSON."""

    def run(*what: str, request: object = None, options: tuple[str, ...] = ()) -> Ran:
        data = [] if request is None else ["-d", json.dumps(request)]
        return run_grpcurl(["-plaintext", *options, *data, server.address, *what])

    return run
