"""Connects to the addresses of results that services send, but to none inside this network.

A service, or whoever changes its answers, could otherwise have this server ask machines that it cannot reach itself.
Source: OWASP, Server-Side Request Forgery Prevention Cheat Sheet.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from urllib.request import getproxies

import httpx2

from atelier_engines.connections import ssl_context
from atelier_engines.errors import EngineFailedError

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Prefix of IPv4 addresses for hosts that have IPv6 alone: RFC 6052."""


def make_transport(name: str, service_host: str) -> httpx2.AsyncBaseTransport | None:
    """What requests the results of the service of that name and host; None for HTTP as usual, through a proxy.

    A proxy finds the addresses itself, so which it connects to is for its rules to say.
    """
    return None if getproxies() else _PublicTransport(name, service_host)


class _PublicTransport(httpx2.AsyncBaseTransport):
    """Finds the addresses of a host once, and connects to one of them, if all are public."""

    def __init__(self, name: str, service_host: str) -> None:
        self._name, self._service_host = name, service_host
        self._inner = httpx2.AsyncHTTPTransport(verify=ssl_context())

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it; redirects come here, too.

        Raises:
            EngineFailedError: its host has an address inside this network, and the service has not.
        """
        host = request.url.host
        found = await _resolve(host)
        if not _are_public(found) and _are_public(await _resolve(self._service_host)):
            raise EngineFailedError(f"{self._name} sent a URL whose address is not public")
        # The name stays in the header Host, and what the certificate is checked for.
        pinned = httpx2.Request(
            request.method,
            request.url.copy_with(host=found[0]),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )
        return await self._inner.handle_async_request(pinned)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


async def _resolve(host: str) -> list[str]:
    """The addresses of the host, at least one.

    Raises:
        httpx2.ConnectError: it has none.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpx2.ConnectError(str(error)) from error
    return [str(address[0]) for *_, address in found]


def _are_public(addresses: list[str]) -> bool:
    return all(_is_public(ipaddress.ip_address(one.partition("%")[0])) for one in addresses)


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether it is neither inside a network, nor leads inside by a gateway that translates it."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return _is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved
