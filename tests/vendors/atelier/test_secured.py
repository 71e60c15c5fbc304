"""Forwarding to a server that wants TLS, a certificate and a key."""

from __future__ import annotations

from pathlib import Path

from atelier_client import AsyncClient, EngineState
from tests.certificates import Authority
from tests.server.test_auth import make_key
from tests.vendors.atelier.conftest import Launch


async def test_a_secured_server_is_forwarded_to(launching: Launch, tmp_path: Path) -> None:
    """With the certificates and the key of the configuration; the key of the environment is nobody's business."""
    authority, keys = Authority(), tmp_path / "keys.json"
    token, ca = make_key(keys, "generate,read,cancel"), authority.write(tmp_path)
    back = launching(
        "back",
        tls={
            **authority.issue().write(tmp_path),
            "client_ca": ca,
            "client_certificates": "required",
        },
        auth={"keys": {"file": str(keys)}},
    )
    own = authority.issue("https://front.test").write(tmp_path, "front")
    far = {
        "type": "atelier",
        "address": back.address,
        "engine": "sketch",
        "tls": True,
        "ca_file": ca,
        "certificate_file": own["certificate"],
        "key_file": own["key"],
    }
    engines = {"far": {**far, "token": token}, "locked": far}
    front = launching("front", engines=engines, wait=["far"], environment={"ATELIER_TOKEN": token})
    async with AsyncClient(front.address) as client:
        made = await client.generate("a lamp", engine="far", width=64, height=64)
        assert made.images[0].data
        while True:
            locked = next(one for one in (await client.health()).engines if one.engine == "locked")
            if locked.state is EngineState.UNAVAILABLE:
                break
    assert "this server wants to know who calls" in locked.message
