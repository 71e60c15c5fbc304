"""Addresses of servers: as gRPC takes them, and as URLs."""

from __future__ import annotations

import pytest

from atelier_client.addresses import ServerAddress, parse_address
from atelier_client.channel import Connection
from atelier_client.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("text", "target", "endpoint"),
    [
        ("localhost:50051", "localhost:50051", ("localhost", 50051)),
        ("[::1]:50051", "[::1]:50051", ("::1", 50051)),
        ("unix:/run/atelier.sock", "unix:/run/atelier.sock", None),
        ("dns:///a.example:5", "dns:///a.example:5", None),
        ("http://a.example:5", "a.example:5", ("a.example", 5)),
        ("a.example", "a.example:50051", ("a.example", 50051)),
        (" a.example:5/ ", "a.example:5", ("a.example", 5)),
        ("::1", "[::1]:50051", ("::1", 50051)),
        ("[::1]", "[::1]:50051", ("::1", 50051)),
        ("HTTP://a.example/", "a.example:50051", ("a.example", 50051)),
        ("http://[::1]:5/", "[::1]:5", ("::1", 5)),
    ],
)
def test_an_address_is_a_target_of_grpc(
    text: str, target: str, endpoint: tuple[str, int] | None
) -> None:
    """In plain text; the endpoint is known where it stands in the address."""
    assert parse_address(text) == ServerAddress(target=target, endpoint=endpoint)


def test_an_https_url_asks_for_tls() -> None:
    """At the port of https, unless it names another."""
    assert parse_address("https://a.example") == ServerAddress(
        target="a.example:443", is_secure=True, endpoint=("a.example", 443)
    )
    assert parse_address("https://a.example:5").target == "a.example:5"


@pytest.mark.parametrize(
    "text",
    [
        *("http://", "http://a.example/b", "http://me:secret@a.example", "http://a?b=secret"),
        *(
            "http://a#secret",
            "http://[::1",
            "http://a:99999",
            "a:99999",
            "a:0",
            "a:secret",
            "a,b:1",
        ),
        *(" ", ":5", "a/b", "me:secret@a:1", "me:secret", "ftp://a:1", "grpc://a:1"),
    ],
)
def test_more_than_a_host_is_refused(text: str) -> None:
    """What gRPC would not send is not dropped in silence, and what may be a password is not printed.

    gRPC itself takes port 99999 for 34463, and a host without a port for port 443.
    """
    with pytest.raises(InvalidRequestError) as refused:
        parse_address(text)
    assert "secret" not in str(refused.value)


def test_a_connection_does_not_print_its_token() -> None:
    """Where a traceback shows values, say."""
    token = "abc" * 9
    connection = Connection(address="a:1", credentials=None, token=token, call_timeout_seconds=1.0)
    assert token in str(connection.metadata)
    assert token not in repr(connection)
