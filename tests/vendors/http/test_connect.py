"""Every client of a remote service is made in one place, with the same trusted certificates."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import atelier_engines
from atelier_engines.connections import ssl_context
from atelier_engines.vendors.client import connect

_PACKAGE = Path(atelier_engines.__file__).parent
_HTTP_CLIENTS = {"AsyncClient", "Client"}
_OTHERS_IN_NEED = {
    "AsyncOpenAI": "http_client",
    "aiohttp.ClientSession": "connector",
    "aiohttp.TCPConnector": "ssl",
    "connect_websocket": "ssl",
}


def _calls() -> Iterator[tuple[str, ast.Call, str]]:
    """Every call in the package: file, call, name of what is called."""
    for path in sorted(_PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                yield str(path.relative_to(_PACKAGE)), node, called


def test_only_two_modules_make_http_clients() -> None:
    """One for services, one for files of weights and libraries: others could leave out the trusted certificates."""
    made = {
        file: {keyword.arg for keyword in call.keywords}
        for file, call, called in _calls()
        if called.partition(".")[0] == "httpx2" and called.rpartition(".")[2] in _HTTP_CLIENTS
    }
    assert made.keys() == {"vendors/client.py", "local/downloads.py"}
    assert all("verify" in keywords for keywords in made.values())


def test_an_sdk_and_every_socket_get_the_certificates_from_there() -> None:
    """They would use other certificates by default."""
    found = [
        (called, {keyword.arg for keyword in call.keywords})
        for _, call, called in _calls()
        if called in _OTHERS_IN_NEED
    ]
    assert {called for called, _ in found} >= _OTHERS_IN_NEED.keys()
    for called, keywords in found:
        assert _OTHERS_IN_NEED[called] in keywords


async def test_the_certificates_are_loaded_once() -> None:
    """Loading them takes tens of milliseconds, and a gateway may have many engines."""
    assert ssl_context() is ssl_context()
    async with connect("https://example.invalid", headers={"x-key": "k"}) as client:
        assert client.headers["x-key"] == "k"
