"""The page at `/` of the HTTP port: its headers, and what is said where it is missing or turned off."""

from __future__ import annotations

import asyncio
import http.client
from pathlib import Path

import pytest

from atelier_server.http_server import HttpServer
from atelier_server.rpc.connect.front import Front
from atelier_server.rpc.connect.page import read_page


async def no_call(_scope: object, _receive: object, _send: object) -> None:
    """Stands behind the front, which passes none of these requests on."""
    raise AssertionError("no call was made")


def make_page(folder: Path) -> Path:
    """What a build makes."""
    (folder / "assets").mkdir()
    (folder / "index.html").write_text("<p>hello</p>")
    (folder / "assets" / "index-1a2b.js").write_text("hello()")
    return folder


async def ask(
    front: Front, path: str, method: str = "GET", host: str = "localhost"
) -> tuple[int, http.client.HTTPMessage, str]:
    """Status, headers and body of the answer."""
    server = HttpServer.listen("127.0.0.1:0", front, grace_seconds=1, make_tls=None)
    server.start()

    def read() -> tuple[int, http.client.HTTPMessage, str]:
        connection = http.client.HTTPConnection(server.address, timeout=300)
        connection.request(method, path, headers={"Host": host})
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, answer.headers, body

    try:
        return await asyncio.to_thread(read)
    finally:
        await server.stop()


def front_of(folder: Path) -> Front:
    """A front with the page in that folder."""
    page = read_page(folder)
    return Front(no_call, frozenset(), only_local_hosts=True, page=page)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_page_lets_nothing_else_in(tmp_path: Path, method: str) -> None:
    """Its policy names no other host, and allows no script inside the page."""
    status, headers, body = await ask(front_of(make_page(tmp_path)), "/", method)
    assert (status, body) == (200, "<p>hello</p>" if method == "GET" else "")
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "http" not in policy
    assert "unsafe" not in policy
    assert headers["content-type"] == "text/html"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-cache"


async def test_files_whose_names_change_may_be_kept(tmp_path: Path) -> None:
    """Browsers fetch them once."""
    front = front_of(make_page(tmp_path))
    status, headers, body = await ask(front, "/assets/index-1a2b.js")
    assert (status, body) == (200, "hello()")
    assert "javascript" in headers["content-type"]
    assert "immutable" in headers["cache-control"]


@pytest.mark.parametrize("path", ["/assets/../index.html", "/assets/", "/%2e%2e/front.py"])
async def test_nothing_beside_the_page_is_shown(tmp_path: Path, path: str) -> None:
    """Only paths of its files are known."""
    status, _, body = await ask(front_of(make_page(tmp_path)), path)
    assert status == 404
    assert "not found" in body


async def test_another_page_whose_name_points_here_gets_nothing(tmp_path: Path) -> None:
    """As for calls."""
    front = front_of(make_page(tmp_path))
    assert (await ask(front, "/", host="evil.example"))[0] == 421


async def test_a_server_without_the_page_says_how_to_get_it(tmp_path: Path) -> None:
    """Where it was not built; not where it is turned off."""
    status, _, body = await ask(front_of(tmp_path), "/")
    assert status == 404
    assert "install Node" in body
    off = Front(no_call, frozenset(), only_local_hosts=True, page=None)
    status, _, body = await ask(off, "/")
    assert status == 404
    assert "Node" not in body
