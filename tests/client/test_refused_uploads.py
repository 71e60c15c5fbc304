"""Uploads that the server refuses while they are sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier_client import AsyncClient
from atelier_client.errors import AccessDeniedError
from tests.conftest import StartServer
from tests.server.test_auth import make_key
from tests.server.test_metrics import key, samples

UPLOADS = 20
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(2**22)


async def test_a_refused_upload_says_why_and_is_not_repeated(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Each time: grpc.aio makes an error of its own of the refusal of many, which looks like a lost connection."""
    make_key(tmp_path / "keys.json")
    server = start_server(auth={"keys": {"file": str(tmp_path / "keys.json")}})
    async with AsyncClient(server.address) as client:
        for _ in range(UPLOADS):
            with pytest.raises(AccessDeniedError, match="wants to know who calls"):
                await client.upload(PICTURE)
    started = key(
        "grpc_server_started_total",
        grpc_service="atelier.v1.GenerationService",
        grpc_method="UploadArtifact",
    )
    assert samples(server)[started] == UPLOADS
