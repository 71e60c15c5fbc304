"""TLS of the gRPC address: certificates that change, clients that must show one, and probes in plain text."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

import grpc
import pytest
import yaml
from cryptography import x509
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import ValidationError

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.config.configuration_files import ConfigurationError
from atelier_server.config.security_settings import TlsSettings
from atelier_server.rpc.certificates import open_tls
from tests.certificates import Authority, Pair
from tests.conftest import RunningServer, StartServer, free_port
from tests.server.calls import eventually, image_request, refusal
from tests.server.test_config import run
from tests.server.test_metrics import key, samples

CALLERS = 32
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


def serial_of(server: RunningServer) -> int:
    """Serial number of the certificate that a new connection is shown."""
    host, _, port = server.address.rpartition(":")
    return x509.load_pem_x509_certificate(
        ssl.get_server_certificate((host, int(port))).encode()
    ).serial_number


def move_over(files: dict[str, str], folder: Path) -> None:
    """Put other files under the names of those in use, one after the other, as certbot does."""
    for kind, name in (("key", "server.key"), ("certificate", "server.pem")):
        Path(files[kind]).replace(folder / name)


def wait_for(server: RunningServer, pair: Pair) -> None:
    """Return once new connections are shown the certificate."""
    while serial_of(server) != number_of(pair):
        time.sleep(0.05)


def number_of(pair: Pair) -> int:
    """Serial number of the certificate."""
    return x509.load_pem_x509_certificate(pair.certificate).serial_number


async def ask(server: RunningServer, credentials: grpc.ChannelCredentials) -> str:
    """The version that the server reports, over a connection of its own."""
    async with aio.secure_channel(server.address, credentials, OWN_CONNECTION) as channel:
        answer = await GenerationServiceStub(channel).Health(pb.HealthRequest(), timeout=60)
    return answer.version


async def test_calls_are_encrypted(start_server: StartServer, tmp_path: Path) -> None:
    """In plain text nothing is answered but probes, at their own address."""
    authority = Authority()
    server = start_server(tls=authority.issue().write(tmp_path / "tls"))
    async with aio.secure_channel(server.address, authority.credentials()) as channel:
        stub = GenerationServiceStub(channel)
        done = await stub.Generate(image_request(), timeout=300)
        assert done.generation.engine == "sketch"
        found = await refusal(stub.GetGeneration(pb.GetGenerationRequest(generation_id="0" * 26)))
        assert found.reason == "NOT_FOUND"
    async with aio.insecure_channel(server.address) as plain:
        with pytest.raises(aio.AioRpcError) as failed:
            await GenerationServiceStub(plain).Health(pb.HealthRequest(), timeout=60)
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    async with aio.insecure_channel(server.health_address) as probes:
        check = health_pb2_grpc.HealthStub(probes).Check  # type: ignore[attr-defined]  # see tests/conftest.py
        answer = await check(health_pb2.HealthCheckRequest(service="sketch"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(aio.AioRpcError) as refused:
            await GenerationServiceStub(probes).Health(pb.HealthRequest(), timeout=60)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    log = server.log.read_text()  # to which gRPC adds no lines of its own
    assert [line for line in log.splitlines() if not line.startswith("{")] == []


async def test_certificates_rotate_under_load(start_server: StartServer, tmp_path: Path) -> None:
    """32 callers open connection after connection while the certificate is replaced three times; no call fails."""
    authority, folder = Authority(), tmp_path / "tls"
    server = start_server(tls=authority.issue().write(folder))
    credentials, done = authority.credentials(), asyncio.Event()

    async def call() -> int:
        count = 0
        while not done.is_set():
            await ask(server, credentials)
            await asyncio.sleep(0.2)
            count += 1
        return count

    calls = [asyncio.create_task(call()) for _ in range(CALLERS)]
    for number in range(3):
        pair = authority.issue()
        files = pair.write(folder, f"next{number}")
        move_over(files, folder)
        await asyncio.to_thread(wait_for, server, pair)
    done.set()
    assert min(await asyncio.gather(*calls)) > 0


async def test_a_wrong_pair_changes_nothing(start_server: StartServer, tmp_path: Path) -> None:
    """The last good one stays, the log and a metric say so, and the next good one is used."""
    authority, folder = Authority(), tmp_path / "tls"
    first = authority.issue()
    server = start_server(tls=first.write(folder))
    current = key("atelier_files_current", key="tls")
    assert samples(server)[current] == 1
    for wrong in (authority.issue().key, b"no key"):
        (folder / "server.key").write_bytes(wrong)
        await eventually(lambda: samples(server)[current] == 0)
        await ask(server, authority.credentials())
        assert serial_of(server) == number_of(first)
        (folder / "server.key").write_bytes(first.key)
        await eventually(lambda: samples(server)[current] == 1)
    reasons = [
        line["reason"] for line in server.log_lines() if line["event"] == "files_not_reloaded"
    ]
    assert reasons == [
        "key does not belong to the first certificate of certificate",
        "key is no PEM file of a private key without a password",
    ]
    (second := authority.issue()).write(folder)
    await asyncio.to_thread(wait_for, server, second)


async def test_clients_must_show_a_certificate(start_server: StartServer, tmp_path: Path) -> None:
    """One of the authority's that is configured; then the server may listen for other machines."""
    authority, stranger = Authority(), Authority("another")
    files = authority.issue().write(tmp_path / "tls")
    server = start_server(
        listen=f"0.0.0.0:{(port := free_port())}",
        address=f"127.0.0.1:{port}",
        tls={**files, "client_ca": authority.write(tmp_path), "client_certificates": "required"},
    )
    assert await ask(server, authority.credentials(authority.issue(subject="a client")))
    for pair in (None, stranger.issue(subject="a client")):
        with pytest.raises(aio.AioRpcError) as refused:
            await ask(server, authority.credentials(pair))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"key": "missing.key"}, "missing.key: No such file"),
        ({"certificate": "server.key"}, "tls: certificate has no certificate in PEM form"),
        ({"key": "other.key"}, "tls: key does not belong to the first certificate"),
        ({"client_certificates": "required"}, "client_certificates: required needs client_ca"),
        ({"client_certificates": "optional"}, "use required, or off with"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    """Before the server starts; no key is shown."""
    files = Authority().issue().write(tmp_path)
    Authority().issue().write(tmp_path, "other")
    files |= {name: str(tmp_path / v) if "." in v else v for name, v in change.items()}
    with pytest.raises((ConfigurationError, ValidationError)) as wrong:
        open_tls(TlsSettings.model_validate(files))
    assert reason in str(wrong.value)
    assert "PRIVATE" not in str(wrong.value)


def test_tls_alone_is_not_enough_for_other_machines(tmp_path: Path) -> None:
    """Anybody could call."""
    files = Authority().issue().write(tmp_path)
    path = tmp_path / "atelier.yaml"
    path.write_text(yaml.safe_dump({"listen": "0.0.0.0:0", "metrics": None, "tls": files}))
    done = run("serve", "--config", path, "--data-dir", tmp_path / "data")
    assert (done.returncode, "no authentication" in done.stderr) == (2, True)
