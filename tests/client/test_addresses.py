"""Addresses of servers: as gRPC takes them, and as URLs."""

from __future__ import annotations

import pytest

from atelier_client.addresses import ServerAddress, parse_address
from atelier_client.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("text", "target", "endpoint"),
    [
        ("localhost:50051", "localhost:50051", ("localhost", 50051)),
        ("[::1]:50051", "[::1]:50051", ("::1", 50051)),
        ("unix:/run/atelier.sock", "unix:/run/atelier.sock", None),
        ("dns:///a.example:5", "dns:///a.example:5", None),
        ("http://a.example:5", "a.example:5", ("a.example", 5)),
        ("HTTP://a.example/", "a.example:50051", ("a.example", 50051)),
        ("http://[::1]:5/", "[::1]:5", ("::1", 5)),
    ],
)
def test_an_address_is_a_target_of_grpc(
    text: str, target: str, endpoint: tuple[str, int] | None
) -> None:
    """In plain text; the endpoint is known where it stands in the address."""
    assert parse_address(text) == ServerAddress(target=target)
    assert parse_address(text).endpoint == endpoint


def test_an_https_url_asks_for_tls() -> None:
    """At the port of https, unless it names another."""
    assert parse_address("https://a.example") == ServerAddress(
        target="a.example:443", is_secure=True
    )
    assert parse_address("https://a.example:5").target == "a.example:5"


@pytest.mark.parametrize(
    "text",
    ["http://", "http://a.example/b", "http://me@a.example", "http://a:99999", "http://a?b=c"],
)
def test_more_than_a_host_is_refused(text: str) -> None:
    """What gRPC would not send is not dropped in silence."""
    with pytest.raises(InvalidRequestError):
        parse_address(text)
