"""Who may call: keys, scopes, client certificates; nobody else may call anything."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from google.protobuf import descriptor_pool
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.auth import keys
from atelier_server.auth.authenticator import open_authenticator
from atelier_server.auth.key_file import add_key, revoke_key
from atelier_server.commands.keys import keys as keys_command
from atelier_server.config.configuration_files import ConfigurationError
from atelier_server.config.load import load
from atelier_server.config.security_settings import SCOPES, AuthSettings, as_scope
from atelier_server.rpc.interceptors.authenticate import OPEN_SERVICES, SCOPES_OF_METHODS
from tests.certificates import Authority
from tests.conftest import RunningServer, StartServer, launch
from tests.server.calls import eventually, image_request, on_acceptance, read, refusal
from tests.server.test_config import run
from tests.server.test_metrics import key, samples

ALL = "generate,read,cancel,admin"
TODAY = datetime.now(UTC)
LOST_STATUS = "Internal error from Core"
"""What grpc.aio makes of any status that comes while it still sends a request."""
HEALTH = ("atelier.v1.GenerationService", "Health")


def make_key(file: Path, scope: str = ALL, tenant: str = "red") -> str:
    """A new key in the file."""
    scopes = [as_scope(name) for name in scope.split(",")]
    record, text = keys.make_key(tenant=tenant, subject="", scopes=scopes, created=TODAY)
    add_key(file, record)
    return text


def bearer(secret: str) -> tuple[tuple[str, str], ...]:
    """What a caller sends along."""
    return (("authorization", f"Bearer {secret}"),)


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of the shared server."""
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def master(key_file: Path) -> str:
    """A key with all scopes."""
    return make_key(key_file)


@pytest.fixture(scope="module")
def locked(
    tmp_path_factory: pytest.TempPathFactory, key_file: Path, master: str
) -> Iterator[RunningServer]:
    """A server that wants keys."""
    assert master
    running = launch(tmp_path_factory.mktemp("locked"), auth={"keys": {"file": str(key_file)}})
    yield running
    running.kill()


async def refused(
    channel: aio.Channel, service: str, method: str, metadata: Sequence[tuple[str, str]] = ()
) -> grpc.StatusCode:
    """How a call with an empty request ends; all kinds are the same on the wire."""
    call: Any = channel.stream_stream(f"/{service}/{method}")
    try:
        async for _ in call(iter([b""]), metadata=metadata, timeout=60):
            return grpc.StatusCode.OK
    except aio.AioRpcError as error:
        if error.details() == LOST_STATUS:
            return await refused(channel, service, method, metadata)
        return error.code()
    return grpc.StatusCode.OK


async def list_services(channel: aio.Channel, metadata: Sequence[tuple[str, str]]) -> list[str]:
    """What the server serves, as it says itself."""
    call: Any = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )
    asked = iter([ServerReflectionRequest(list_services="")])
    answers = [answer async for answer in call(asked, metadata=metadata, timeout=60)]
    return [service.name for service in answers[0].list_services_response.service]


async def test_every_method_of_every_service_wants_a_key(
    locked: RunningServer, master: str, key_file: Path
) -> None:
    """Without one, with a wrong one, and with one that lacks the scope; health alone is open to all."""
    poor = {scope: bearer(make_key(key_file, scope)) for scope in ("read", "admin")}
    async with aio.insecure_channel(locked.address) as channel:
        await usable(channel, poor["admin"])
        services = await list_services(channel, bearer(master))
        methods = [
            (service, method)
            for service in services
            for method in find_methods(service)
            if service not in OPEN_SERVICES
        ]
        assert set(methods) == SCOPES_OF_METHODS.keys()
        assert len(methods) == 15
        for service, method in methods:
            for wrong in ((), bearer(master + "x"), bearer(f"ak0.{master}"), bearer("")):
                code = await refused(channel, service, method, wrong)
                assert code is grpc.StatusCode.UNAUTHENTICATED, (service, method, wrong)
            for scope, metadata in poor.items():
                allowed = scope in SCOPES_OF_METHODS[service, method]
                code = await refused(channel, service, method, metadata)
                denied = code is grpc.StatusCode.PERMISSION_DENIED
                assert denied is not allowed, (service, method, scope, code)


def find_methods(service: str) -> list[str]:
    """The methods of a service, by its descriptor; both versions of reflection have the same."""
    pool = descriptor_pool.Default()
    found = pool.FindServiceByName(service.replace("reflection.v1.", "reflection.v1alpha."))
    return [method.name for method in found.methods]


async def usable(channel: aio.Channel, metadata: Sequence[tuple[str, str]]) -> None:
    """Return once the server has read a new key."""
    await ends_with(grpc.StatusCode.OK, channel, metadata)


async def ends_with(
    code: grpc.StatusCode, channel: aio.Channel, metadata: Sequence[tuple[str, str]]
) -> None:
    """Return once calls end so."""
    while await refused(channel, *HEALTH, metadata) is not code:  # noqa: ASYNC110 (it happens in another process)
        await asyncio.sleep(0.05)


async def test_health_wants_no_key(locked: RunningServer) -> None:
    """Probes have none."""
    async with aio.insecure_channel(locked.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]  # see tests/conftest.py
        answer = await check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_stream_needs_the_scope_of_its_request(
    locked: RunningServer, master: str, key_file: Path
) -> None:
    """To follow a generation is to read, to start one is not."""
    reader, writer = (bearer(make_key(key_file, scope)) for scope in ("read", "generate"))
    start = pb.StreamProgressRequest(generate=image_request())
    async with aio.insecure_channel(locked.address) as channel:
        stub = GenerationServiceStub(channel)
        await usable(channel, writer)
        request = on_acceptance(image_request())
        made = await stub.Generate(request, metadata=bearer(master), timeout=60)
        follow = pb.StreamProgressRequest(generation_id=made.generation.id)
        for metadata, allowed, denied in ((reader, follow, start), (writer, start, follow)):
            assert [event async for event in stub.StreamProgress(allowed, metadata=metadata)]
            with pytest.raises(aio.AioRpcError) as failed:
                [event async for event in stub.StreamProgress(denied, metadata=metadata)]
            found = read(failed.value)
            assert (found.code, found.reason) == (
                grpc.StatusCode.PERMISSION_DENIED,
                "PERMISSION_DENIED",
            )


async def test_what_is_wrong_with_a_key_is_not_said(locked: RunningServer, master: str) -> None:
    """An unknown id and a wrong secret are the same answer; what to send is said to those who send nothing."""
    key_id, _, secret = master.partition(".")
    async with aio.insecure_channel(locked.address) as channel:
        stub = GenerationServiceStub(channel)
        answers = [
            await refusal(stub.Health(pb.HealthRequest(), metadata=metadata, timeout=60))
            for metadata in (
                bearer(f"{key_id}.{secret[:-1]}"),
                bearer(f"ak0.{secret}"),
                (*bearer(master), *bearer(master)),
                (("authorization", f"Basic {secret}"),),
                (),
            )
        ]
        lower = (("authorization", f"bearer {master}"),)
        assert await refused(channel, *HEALTH, lower) is grpc.StatusCode.OK
    assert {answer.reason for answer in answers} == {"UNAUTHENTICATED"}
    assert answers[0].message == answers[1].message
    assert "one metadata" in answers[2].message
    assert "--token" in answers[3].message
    assert answers[3].message == answers[4].message
    assert secret not in locked.log.read_text()


def test_a_key_is_shown_once(tmp_path: Path) -> None:
    """The secret alone is on stdout; the file, for its owner alone, has a salted hash of it."""
    path = tmp_path / "keys.json"
    arguments = ("--file", path, "--tenant", "red", "--scope", "generate, read")
    second = make_key(path)
    first = run("keys", "create", *arguments)
    key_id, _, secret = first.stdout.strip().partition(".")
    assert len(first.stdout.splitlines()) == 1
    assert len(secret) == 43
    assert secret not in first.stderr + path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    records = json.loads(path.read_text())["keys"]
    assert len({record["salt"] for record in records}) == 2
    listed = run("keys", "list", "--file", path).stdout.splitlines()
    assert [line.split()[0] for line in listed] == [record["id"] for record in records]
    assert "generate,read" in listed[1]
    path.chmod(0o640)  # for the group that the server runs in
    assert run("keys", "revoke", "--file", path, key_id).returncode == 0
    assert [record["id"] for record in json.loads(path.read_text())["keys"]] == [
        second.partition(".")[0]
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert not revoke_key(path, key_id)


@pytest.mark.parametrize(
    ("tenant", "scope", "reason"),
    [
        ("red", "write", "no scope 'write'; there are generate, read, cancel, admin"),
        ("red", "", "scopes: "),
        ("../red", "read", "tenant: "),
    ],
)
def test_a_wrong_key_is_not_made(tmp_path: Path, tenant: str, scope: str, reason: str) -> None:
    """What is wrong is named."""
    path = tmp_path / "keys.json"
    arguments = ["create", "--file", str(path), "--tenant", tenant, "--scope", scope]
    done = CliRunner().invoke(keys_command, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert reason in done.stderr
    assert not path.exists()


def replace(path: Path, content: bytes) -> bytes:
    """Write the file; returns what it was before."""
    before = path.read_bytes()
    path.write_bytes(content)
    return before


async def test_revoked_keys_end_and_broken_files_change_nothing(
    locked: RunningServer, master: str, key_file: Path
) -> None:
    """Without a restart."""
    secret = make_key(key_file, "read", tenant="blue")
    current = key("atelier_files_current", key="auth.keys.file")
    async with aio.insecure_channel(locked.address) as channel:
        await usable(channel, bearer(secret))
        revoke_key(key_file, secret.partition(".")[0])
        await ends_with(grpc.StatusCode.UNAUTHENTICATED, channel, bearer(secret))
        good = replace(key_file, b'{"keys": [{"id": "secret-in-the-wrong-place"}]}')
        await eventually(lambda: samples(locked)[current] == 0)
        assert await refused(channel, *HEALTH, bearer(master)) is grpc.StatusCode.OK
        replace(key_file, good)
        await eventually(lambda: samples(locked)[current] == 1)
    assert "secret-in-the-wrong-place" not in locked.log.read_text()


async def test_a_certificate_is_a_caller(start_server: StartServer, tmp_path: Path) -> None:
    """By a name that its authority has signed; a key beside it takes precedence, also a wrong one."""
    authority, name = Authority(), "spiffe://atelier.test/robot"
    secret = make_key(tmp_path / "keys.json", tenant="blue")
    settings: Mapping[str, object] = {
        "tls": {
            **authority.issue().write(tmp_path / "tls"),
            "client_ca": authority.write(tmp_path),
            "client_certificates": "required",
        },
        "auth": {
            "keys": {"file": str(tmp_path / "keys.json")},
            "certificates": {name: {"tenant": "red", "scopes": ["generate", "read"]}},
        },
        "reflection": "nobody",
    }
    server = start_server(**settings)
    robot = authority.credentials(authority.issue("https://other", name))
    async with aio.secure_channel(server.address, robot) as channel:
        stub = GenerationServiceStub(channel)
        made = await stub.Generate(image_request(), timeout=300)
        cancel = pb.CancelGenerationRequest(generation_id=made.generation.id)
        assert (await refusal(stub.CancelGeneration(cancel))).reason == "PERMISSION_DENIED"
        get = pb.GetGenerationRequest(generation_id=made.generation.id)
        assert (await stub.GetGeneration(get)).generation.id == made.generation.id
        found = await refusal(stub.GetGeneration(get, metadata=bearer(secret)))
        assert found.reason == "NOT_FOUND"  # another tenant
        assert (
            await refusal(stub.GetGeneration(get, metadata=bearer("ak.x")))
        ).reason == "UNAUTHENTICATED"
        reflection = ("grpc.reflection.v1.ServerReflection", "ServerReflectionInfo")
        assert await refused(channel, *reflection) is grpc.StatusCode.UNIMPLEMENTED
    stranger = authority.credentials(authority.issue("spiffe://atelier.test/stranger"))
    async with aio.secure_channel(server.address, stranger) as channel:
        assert await refused(channel, *HEALTH) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("auth", "reason"),
    [
        ({}, "auth: "),
        ({"keys": {"file": "/nowhere"}}, "auth.keys.file: cannot read /nowhere"),
        ({"keys": {"file": __file__}}, "no file of keys, as `atelier keys create` makes one"),
        ({"certificates": {"a": {"tenant": "a", "scopes": ["read"]}}}, "tls.client_certificates"),
        ({"jwt": {"issuer": "a", "audience": "b"}}, "needs one of jwks_url and jwks_file"),
        (
            {"jwt": {"issuer": "a", "audience": "b", "jwks_url": "http://a"}},
            "must begin with https://",
        ),
        (
            {"jwt": {"issuer": "a", "audience": "b", "jwks_file": "a", "algorithms": ["HS256"]}},
            "auth.jwt.algorithms.0",
        ),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, auth: object, reason: str) -> None:
    """Before anything is served."""
    path = tmp_path / "atelier.yaml"
    path.write_text(json.dumps({"auth": auth, "engines": {"a": {"type": "sketch"}}}))
    with pytest.raises(ConfigurationError) as wrong:
        open_authenticator(load(path).auth or AuthSettings())
    assert reason in str(wrong.value)


def test_each_scope_opens_what_the_documentation_says() -> None:
    """By methods; whatever is told by the service itself is open to each of them."""
    opened = {
        scope: {method for (_, method), scopes in SCOPES_OF_METHODS.items() if scope in scopes}
        for scope in SCOPES
    }
    told = {"GetCapabilities", "Health", "ServerReflectionInfo"}
    assert opened == {
        "generate": told | {"Generate", "PlanGeneration", "UploadArtifact", "StreamProgress"},
        "read": told | {"GetGeneration", "ListGenerations", "DownloadArtifact", "StreamProgress"},
        "cancel": told | {"CancelGeneration"},
        "admin": told | {"PauseEngine", "ResumeEngine", "ClearQueue"},
    }
    assert all(scopes <= SCOPES for scopes in SCOPES_OF_METHODS.values())
