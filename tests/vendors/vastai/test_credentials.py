"""Each rented instance has a certificate and a key of its own; each of them is a real server."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest

from atelier_client import AsyncClient, Tls
from atelier_client.errors import AccessDeniedError, ServerUnreachableError, TlsError
from atelier_engines.event import Output
from atelier_engines.vendors.vastai.credentials import SERVER_NAME, VARIABLE, WorkerCredentials
from tests.conftest import StartServer
from tests.vendors.calls import run_task
from tests.vendors.vastai.conftest import Make
from tests.vendors.vastai.stand_in import StandIn
from tests.vendors.vastai.test_renting import TASK


def find_key(state_dir: Path) -> Path:
    """The file with the key of the one instance."""
    (found,) = state_dir.glob("workers/*.key")
    return found


async def test_nobody_else_can_use_a_rented_instance(
    vendor: StandIn, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine can; without its key, its certificate or TLS nobody can. The key is in nothing that others read."""
    caplog.set_level("DEBUG")
    engine = make(generate_credentials=True, state_dir=tmp_path)
    await engine.start()
    assert isinstance((await run_task(engine, TASK))[-1], Output)
    (instance,), file = vendor.rented, find_key(tmp_path)
    assert instance.server is not None
    address, key = instance.server.address, file.read_text()
    pinned = Tls(ca=file.with_suffix(".pem"), server_name=SERVER_NAME)
    async with AsyncClient(address, tls=pinned, token=key) as client:
        await client.health()
    other = WorkerCredentials(tmp_path / "others")
    other.issue("tests/another")
    wrong = Tls(ca=tmp_path / "others/workers/another.pem", server_name=SERVER_NAME)
    for refusal, tls, token in (
        (AccessDeniedError, pinned, ""),
        (AccessDeniedError, pinned, key[:-1]),
        (TlsError, wrong, key),
        (ServerUnreachableError, None, key),
    ):
        async with AsyncClient(address, tls=tls, token=token) as client:
            with pytest.raises(refusal):
                await client.health()
    given = base64.b64decode(instance.order["env"][VARIABLE]).decode()
    private_key = json.loads(given)["key"].splitlines()[1]
    secret = key.partition(".")[2]
    assert secret not in json.dumps(instance.order) + given
    read_by_others = [instance.order["label"], caplog.text, instance.server.log.read_text()]
    assert not [one for one in read_by_others if secret in one or private_key in one]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (file, file.with_suffix(".pem"))} == {
        0o600
    }
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_an_instance_without_its_certificate_is_destroyed(
    vendor: StandIn, make: Make, tmp_path: Path
) -> None:
    """Whoever answers there may be anybody."""
    stray = vendor.add("tests/stray")
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "gone.key").touch()
    await make(generate_credentials=True, state_dir=tmp_path).start()
    assert stray.id not in vendor.instances
    assert len(vendor.rented) == 2
    assert not (tmp_path / "workers" / "gone.key").exists()


@pytest.mark.parametrize(
    ("value", "settings", "said"),
    [
        ("nonsense", {}, "not what the engine vastai makes"),
        ("e30=", {}, "not what the engine vastai makes"),
        ("e30=", {"auth": {"keys": {"file": "keys.json"}}}, "cannot be set together"),
    ],
)
def test_credentials_that_cannot_be_used_stop_the_server(
    start_server: StartServer, value: str, settings: dict[str, object], said: str
) -> None:
    """Rather than being ignored, which would open it to everybody."""
    server = start_server(wait=False, environment={VARIABLE: value}, **settings)
    assert server.process.wait(300) != 0
    assert said in server.log.read_text()
