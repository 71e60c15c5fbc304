"""Requests to services are noted for whoever asked, and carry nothing of the caller's trace."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from atelier_engines.errors import EngineError
from atelier_engines.http_calls import collect_calls, note_call
from atelier_engines.vendors.client import AnyResponse, VendorClient, connect


def make_client(*statuses: int) -> VendorClient:
    """A client of a service that answers with these statuses, one after the other."""
    left = iter(statuses)

    def respond(request: httpx2.Request) -> httpx2.Response:
        assert not {"traceparent", "tracestate", "baggage"} & set(request.headers)
        return httpx2.Response(next(left), json={})

    transport = httpx2.MockTransport(respond)
    client = connect("https://acme.example", transport=transport)
    return VendorClient(name="acme", client=client, delay_scale=0)


async def test_calls_are_noted_with_their_statuses() -> None:
    """Also those that fail and are sent again, each with its own time."""
    calls = collect_calls()
    client = make_client(503, 200, 404)
    await client.request("GET", "/jobs/1", model=AnyResponse)
    with pytest.raises(EngineError):
        await client.request("GET", "/jobs/2", model=AnyResponse)
    await client.close()
    assert [(call.service, call.method, call.status) for call in calls] == [
        ("acme", "GET", 503),
        ("acme", "GET", 200),
        ("acme", "GET", 404),
    ]
    assert all(call.started <= call.ended for call in calls)


async def test_only_the_first_calls_are_noted() -> None:
    """A job that is polled for hours does not fill the memory."""
    calls = collect_calls()
    for _ in range(1000):
        with note_call("acme", "GET"):
            pass
    assert len(calls) == 128


async def test_who_did_not_ask_gets_no_calls() -> None:
    """A task sees its own calls alone."""

    async def make_one() -> int:
        calls = collect_calls()
        with note_call("acme", "GET"):
            await asyncio.sleep(0)
        return len(calls)

    first, second = await asyncio.gather(make_one(), make_one())
    assert (first, second) == (1, 1)
