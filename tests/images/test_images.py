"""What images hold is listed, and the files that start them are well formed and work with the real server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml
from grpc import aio

from atelier.v1.generation_pb2 import State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.config.load import load
from tests.artifacts.bucket_server import BucketServer
from tests.conftest import ROOT, StartServer
from tests.postgres_server import PostgresServer, postgres_server
from tests.server.calls import image_request

__all__ = ["postgres_server"]

CYCLONEDX = ROOT / ".tools" / "sdk" / "sbom" / "bin" / "cyclonedx-py"
LOCK = ROOT / "requirements" / "image-gateway.txt"
COMPOSE = ROOT / "images" / "compose.yaml"
COMPOSE_SCHEMA = ROOT / ".tools" / "crds" / "compose-spec.json"
OWN = {"atelier-client", "atelier-engines"}


@pytest.mark.skipif(not CYCLONEDX.exists(), reason="`make sdks` installs cyclonedx-bom")
def test_the_bill_of_materials_is_what_the_image_installs(tmp_path: Path) -> None:
    """Every package of the lock for Linux with its hashes, and ours; none of other platforms. The tool validates it."""
    output = tmp_path / "gateway.cdx.json"
    script = ROOT / "scripts" / "write_sbom.py"
    subprocess.run([sys.executable, script, CYCLONEDX, LOCK, output], check=True)
    bill: Mapping[str, Any] = json.loads(output.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "atelier-server"
    assert "timestamp" not in bill["metadata"]
    components: Mapping[str, Any] = {each["name"]: each for each in bill["components"]}
    locked = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", LOCK.read_text(), re.MULTILINE))
    others = set(
        re.findall(r"^(\S+)==.*; .*== '(?:win32|emscripten)' \\$", LOCK.read_text(), re.MULTILINE)
    )
    assert others == {"httpx2-jsfetch", "tzdata"}
    assert components.keys() == (locked.keys() - others) | OWN
    for name, component in components.items():
        assert component["purl"] == f"pkg:pypi/{name}@{component['version']}"
        if name not in OWN:
            assert component["version"] == locked[name]
            algorithms = {each["alg"] for each in component["externalReferences"][0]["hashes"]}
            assert algorithms == {"SHA-256"}


def test_images_run_as_nobody_in_particular_and_say_what_they_are() -> None:
    """Their last stages have a user by its number, labels with version and revision, and a list of what is in them."""
    text = (ROOT / "images" / "Dockerfile").read_text()
    stages = dict(
        re.findall(r"^FROM \S+ AS (\S+)$(.*?)(?=^FROM|\Z)", text, re.MULTILINE | re.DOTALL)
    )
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    assert "USER 10001:10001" in stages["base"]
    for label in ("title", "description", "licenses", "version", "revision", "base.name"):
        assert f"org.opencontainers.image.{label}=" in stages["base"]
    for name in ("gateway", "gpu"):
        assert f"FROM base AS {name}" in text
        assert f"COPY dist/atelier-{name}.cdx.json /opt/atelier/sbom.cdx.json" in stages[name]
    bases = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE))
    assert bases == {"${PYTHON}", "base"}, "a base that no digest can be given for"


@pytest.fixture(scope="module")
def compose() -> Mapping[str, Any]:
    """The compose file."""
    found: Mapping[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return found


@pytest.mark.skipif(not COMPOSE_SCHEMA.exists(), reason="`make crds` fetches the schema, with Go")
def test_the_compose_file_is_one(compose: Mapping[str, Any]) -> None:
    """By the schema of the Compose Specification, which finds a misspelt key."""
    validator = jsonschema.Draft202012Validator(json.loads(COMPOSE_SCHEMA.read_text()))
    validator.validate(compose)
    wrong = {"services": {"server": {"image": "a", "read_onli": True}}}
    with pytest.raises(jsonschema.ValidationError, match="read_onli"):
        validator.validate(wrong)


def test_what_the_compose_file_names_exists(compose: Mapping[str, Any]) -> None:
    """Volumes, files, and services that others wait for; only this machine reaches what is published."""
    volumes = {
        volume.split(":")[0] for each in compose["services"].values() for volume in each.get("volumes", [])
    }  # fmt: skip
    paths = {volume for volume in volumes if volume.startswith(".")}
    assert volumes - paths == compose["volumes"].keys()
    for path in paths:
        assert (COMPOSE.parent / path).exists(), path
    for service in compose["services"].values():
        for other in service.get("depends_on", {}):
            assert "healthcheck" in compose["services"][other]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


async def test_the_server_runs_with_the_configuration_of_the_compose_file(
    start_server: StartServer, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """With a real PostgreSQL and the S3 server that it names, both on this machine: an image is in the bucket."""
    path = COMPOSE.parent / "compose" / "atelier.yaml"
    settings: dict[str, Any] = yaml.safe_load(path.read_text())
    moved = {"listen", "http", "health_listen", "metrics", "data_dir"}
    kept = {key: value for key, value in settings.items() if key not in moved}
    bucket = BucketServer(tmp_path / "buckets")
    bucket.start()
    try:
        kept["store"]["dsn"] = postgres_server.make_database()
        kept["artifacts"] |= bucket.settings
        assert kept["artifacts"].keys() == bucket.settings.keys()
        server = start_server(**kept)
        async with aio.insecure_channel(server.address) as channel:
            answer = await GenerationServiceStub(channel).Generate(image_request())
        assert answer.generation.state == State.STATE_SUCCEEDED
        assert any(path.is_file() for path in bucket.bucket.rglob("*"))
        assert server.terminate() == 0
    finally:
        bucket.stop()


def test_the_server_loads_the_configuration_of_the_compose_file(tmp_path: Path) -> None:
    """As it is, with the secrets that compose.yaml asks for."""
    path = tmp_path / "atelier.yaml"
    path.write_text((COMPOSE.parent / "compose" / "atelier.yaml").read_text())
    (tmp_path / ".env").write_text("DATABASE_PASSWORD=of-a-test\nS3_SECRET=of-a-test\n")
    settings = load(path)
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert settings.store.type == "postgres"
    assert urlsplit(str(settings.artifacts.endpoint)).hostname in services
