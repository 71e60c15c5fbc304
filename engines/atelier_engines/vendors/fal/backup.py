"""The second domain of fal's queue, for when the first cannot be reached."""

from __future__ import annotations

import logging

import httpx2

_CONNECT_TIMEOUT_SECONDS = 5.0
_NOT_CONNECTED = (httpx2.ConnectError, httpx2.ConnectTimeout)

_log = logging.getLogger(__name__)


class BackupTransport(httpx2.AsyncBaseTransport):
    """Sends what cannot be sent to one address to another one, which the same service answers.

    Only a connection that was never made counts: nothing was sent then, so that no request is paid twice. Jobs are
    known at both addresses. Other hosts are not affected.
    Source: `fal-client` 1.0.3, client.py, AsyncBackupDomainTransport.
    """

    def __init__(self, client: httpx2.AsyncClient, *, primary: str, backup: str) -> None:
        """Send through `client`; the addresses are URLs, of which scheme, host and port count."""
        self._client = client
        self._primary, self._backup = httpx2.URL(primary), httpx2.URL(backup)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request; see httpx2.AsyncBaseTransport."""
        if not _same_address(request.url, self._primary):
            return await self._client.send(request, stream=True)
        timeouts = dict(request.extensions.get("timeout", {}))
        timeouts["connect"] = min(
            timeouts.get("connect") or _CONNECT_TIMEOUT_SECONDS, _CONNECT_TIMEOUT_SECONDS
        )
        request.extensions = {**request.extensions, "timeout": timeouts}
        try:
            return await self._client.send(request, stream=True)
        except _NOT_CONNECTED as error:
            moved = self._move(request)
            _log.warning(
                "fal_backup_used", extra={"host": moved.url.host, "error": type(error).__name__}
            )
            return await self._client.send(moved, stream=True)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _move(self, request: httpx2.Request) -> httpx2.Request:
        backup = self._backup
        url = request.url.copy_with(scheme=backup.scheme, host=backup.host, port=backup.port)
        headers = request.headers.copy()
        headers["host"] = url.netloc.decode("ascii")
        return httpx2.Request(
            request.method,
            url,
            headers=headers,
            stream=request.stream,
            extensions=request.extensions,
        )


def _same_address(url: httpx2.URL, other: httpx2.URL) -> bool:
    return (url.scheme, url.host, url.port) == (other.scheme, other.host, other.port)
