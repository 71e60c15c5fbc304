"""Uploads that the server refuses while they are sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier_client import AsyncClient
from atelier_client.errors import AccessDeniedError, InvalidRequestError
from tests.client.atelier_command import atelier
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


async def test_a_file_over_the_limit_is_refused_by_the_name_of_its_field(
    start_server: StartServer, tmp_path: Path
) -> None:
    """The command exits as for every other invalid request: trying again does not help."""
    server = start_server(limits={"max_upload_bytes": 2**21})
    picture = tmp_path / "large.png"
    picture.write_bytes(PICTURE)
    async with AsyncClient(server.address) as client:
        with pytest.raises(InvalidRequestError, match="init_image: an upload may have") as raised:
            await client.generate("a lamp", init_image=picture, engine="sketch")
    assert [wrong.field for wrong in raised.value.violations] == ["init_image"]
    asked = ("--init-image", picture, "--server", server.address)
    ended = await atelier("generate", "a lamp", *asked, cwd=tmp_path)
    assert ended.code == 2
    assert "at most 2097152 bytes: send a smaller file" in ended.err
