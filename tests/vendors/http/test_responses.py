"""Error messages and Retry-After of responses."""

from __future__ import annotations

import httpx2
import pytest

from atelier_engines.vendors.responses import Response, find_retry_after, find_secrets

NOW = 1_700_000_000.0


def explained(body: bytes, *secrets: str) -> str:
    """The error message of the response."""
    return Response(status=400, headers=httpx2.Headers(), body=body).error_message(secrets)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"detail": "too small"}', "too small"),
        (b'{"detail": [{"msg": "a", "loc": []}, {"msg": "b"}]}', "a; b"),
        (b'{"error": {"message": "no\\nnewline", "code": "x"}}', "no newline"),
        (b'{"error": null, "message": "then this"}', "then this"),
        (b'{"unknown": 1}', ""),
        (b'["one", 2]', "one; 2"),
        (b"<html>oops</html>", ""),
        (b"\xff\xfe", ""),
        (b"", ""),
        (b"[" * 100_000, ""),
    ],
    ids=range(10),
)
def test_a_vendors_message_is_found_in_the_usual_shapes(body: bytes, text: str) -> None:
    """On one line; anything else gives an empty message."""
    assert explained(body) == text


def test_keys_are_masked_in_a_vendors_message() -> None:
    """With and without the scheme before them."""
    headers = httpx2.Headers(
        {"Authorization": "Bearer sk-12345678", "x-key": "abcdefgh", "accept": "application/json"}
    )
    secrets = find_secrets(headers)
    text = explained(b'{"error": "sk-12345678 and abcdefgh: application/json only"}', *secrets)
    assert text == "… and …: application/json only"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("inf", 86400.0),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    """Never negative, at most a day; None if malformed. A date counts from that of the response."""
    headers = httpx2.Headers({"Retry-After": value, "Date": "Tue, 14 Nov 2023 22:13:20 GMT"})
    assert find_retry_after(headers) == seconds
    assert find_retry_after(httpx2.Headers({"Date": headers["date"]})) is None


def test_retry_after_of_a_response_without_a_date_counts_from_now() -> None:
    """By this machine's clock: there is no other."""
    headers = httpx2.Headers({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"})
    assert find_retry_after(headers) == 86400.0
