"""Nobody but the user of the server reads what it keeps."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml
from grpc import aio

from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import StartServer
from tests.server.calls import image_request
from tests.server.test_artifacts import png, upload
from tests.server.test_config import run


def modes(folder: Path) -> dict[str, int]:
    """The permissions of the folder and of everything in it."""
    found = {".": folder, **{str(path.relative_to(folder)): path for path in folder.rglob("*")}}
    return {name: stat.S_IMODE(path.stat().st_mode) for name, path in found.items()}


async def test_kept_files_are_private(start_server: StartServer, tmp_path: Path) -> None:
    """Directories 0700, files 0600: database, log of writes, artifacts; a directory of an older version is closed."""
    data = tmp_path / "data"
    (data / "artifacts").mkdir(parents=True)
    data.chmod(0o755)
    (data / "artifacts").chmod(0o755)
    server = start_server()
    async with aio.insecure_channel(server.address) as channel:
        stub = GenerationServiceStub(channel)
        await upload(stub, png())
        await stub.Generate(image_request())
        found = modes(data)
    assert {"atelier.db", "atelier.db-wal", "atelier.db-shm", "atelier.db-commits", "lock"} < set(
        found
    )
    assert len([name for name in found if name.startswith("artifacts/")]) >= 2
    folders = {".", "artifacts", "artifacts/recycled"}
    assert {
        name: oct(mode)
        for name, mode in found.items()
        if mode != (0o700 if name in folders else 0o600)
    } == {}


@pytest.mark.parametrize("key", ["listen", "metrics", "scaler_listen"])
def test_no_address_is_public_by_mistake(tmp_path: Path, key: str) -> None:
    """Those of metrics and of KEDA need the same word of consent as that of the calls."""
    path = tmp_path / "atelier.yaml"
    local = {"listen": "127.0.0.1:0", "metrics": "127.0.0.1:0", "data_dir": str(tmp_path / "data")}
    path.write_text(yaml.safe_dump({**local, key: "0.0.0.0:0"}))
    done = run("serve", "--config", path)
    assert done.returncode == 2
    assert f"{key}: 0.0.0.0:0 can be reached by other machines" in done.stderr
    assert "--allow-insecure" in done.stderr
