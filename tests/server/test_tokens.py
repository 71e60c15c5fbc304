"""Tokens of an identity provider: what is accepted, and every way in which one is not."""

from __future__ import annotations

import base64
import hmac
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from grpc import aio
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.auth.key_sets import FileKeySource, RemoteKeySource, parse_key_set
from atelier_server.auth.tokens import TokenVerifier
from atelier_server.config.security_settings import JwtSettings
from atelier_server.errors import AuthenticationUnavailableError, UnauthenticatedError
from atelier_server.reloading import Reloaded
from tests.certificates import Authority
from tests.conftest import StartServer
from tests.server.calls import image_request, refusal
from tests.server.test_auth import bearer, list_services

PrivateKey: TypeAlias = "rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
OTHER = ec.generate_private_key(ec.SECP256R1())
DAY = 86_400


def to_jwk(key: PrivateKey, **more: str) -> dict[str, Any]:
    """Its public half as a JSON object."""
    match key:
        case rsa.RSAPrivateKey():
            return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), **more}
        case ec.EllipticCurvePrivateKey():
            return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), **more}
        case _:
            return {**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), **more}


KEYS = [
    to_jwk(RSA, kid="rsa"),
    to_jwk(EC, kid="ec", alg="ES256", use="sig"),
    to_jwk(ED, kid="ed"),
    to_jwk(OTHER, kid="sealed", use="enc"),
    {"kty": "oct", "kid": "shared", "k": base64.urlsafe_b64encode(b"k" * 32).decode()},
]


def claims(**changed: object) -> dict[str, object]:
    """Those of a good token, with changes; None takes one away."""
    now = int(time.time())
    good: dict[str, object] = {
        "exp": now + DAY,  # tests in a long run take place hours after this module was imported
        "nbf": now - 10,
        "iss": "https://id.test",
        "aud": "atelier",
        "sub": "ann",
        "tenant": "red",
        "scope": "openid generate read",
    }
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


def sign(key: PrivateKey = EC, algorithm: str = "ES256", kid: str = "ec", **changed: object) -> str:
    """A token."""
    return jwt.encode(claims(**changed), key, algorithm=algorithm, headers={"kid": kid})


def forge(header: Mapping[str, object], secret: bytes = b"") -> str:
    """A token without a signature, or with one by a shared secret, which PyJWT refuses to make."""

    def encode(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    body = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(claims()).encode())}"
    mac = hmac.digest(secret, body.encode(), "sha256") if secret else b""
    return f"{body}.{encode(mac)}"


@pytest.fixture
def verifier(tmp_path: Path) -> TokenVerifier:
    """What a server with these keys in a file uses."""
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": KEYS}))
    settings = JwtSettings(issuer="https://id.test", audience="atelier", jwks_file=path)
    file = Reloaded("keys", [path], lambda contents: parse_key_set(contents[0]))
    return TokenVerifier(settings, FileKeySource(file))


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")]
)
async def test_a_good_token_names_its_caller(
    verifier: TokenVerifier, key: PrivateKey, algorithm: str, kid: str
) -> None:
    """With each of the algorithms; scopes of others are left out."""
    token = sign(key, algorithm, kid, aud=["other", "atelier"])
    caller = await verifier.find(token)
    assert (caller.tenant, caller.subject) == ("red", "ann")
    assert caller.scopes == {"generate", "read"}
    assert await verifier.find(token) is caller  # without another verification


RSA_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
PAST = int(time.time()) - DAY


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (sign(exp=PAST), "it has expired"),
        (sign(nbf=PAST + 2 * DAY), "it is not valid yet"),
        (sign(aud="another"), "it is for another audience"),
        (sign(iss="https://another"), "it is of another issuer"),
        (sign(exp=None), "it lacks the claim 'exp'"),
        (sign(iss=None), "it lacks the claim 'iss'"),
        (sign(aud=None), "it lacks the claim 'aud'"),
        (sign(sub=None), "it lacks the claim 'sub'"),
        (sign(tenant=None), "claim 'tenant' names no tenant"),
        (sign(tenant="../red"), "claim 'tenant' names no tenant"),
        (sign(tenant=["red"]), "claim 'tenant' names no tenant"),
        (sign(OTHER), "its signature or form is wrong"),
        (sign(kid="unknown"), "its signature or form is wrong"),
        (sign(OTHER, kid="sealed"), "its signature or form is wrong"),
        (sign(RSA, "RS256", "ec"), "its signature or form is wrong"),
        (sign(RSA, "RS512", "rsa"), "algorithm that is not allowed"),
        (forge({"alg": "none"}), "algorithm that is not allowed"),
        (forge({"alg": "None", "kid": "ec"}), "algorithm that is not allowed"),
        (forge({"alg": "HS256", "kid": "rsa"}, RSA_PEM), "algorithm that is not allowed"),
        (forge({"alg": "HS256", "kid": "shared"}, b"k" * 32), "algorithm that is not allowed"),
        (forge({"alg": "ES256", "kid": "ec"}), "its signature or form is wrong"),
        (sign()[:-4] + "AAAA", "its signature or form is wrong"),
        ("a.b.c", "it is no token"),
        (sign(padding="x" * 9000), "it is too long"),
    ],
)
async def test_a_wrong_token_is_nobody(verifier: TokenVerifier, token: str, reason: str) -> None:
    """The text says why, as far as it helps those who have a token."""
    with pytest.raises(UnauthenticatedError) as refused:
        await verifier.find(token)
    assert str(refused.value).endswith(reason) or reason in str(refused.value)


async def test_a_known_token_expires(verifier: TokenVerifier) -> None:
    """Also one that was verified before, 30 s after its time for clocks that differ."""
    token = sign(exp=int(time.time()) - 28)
    assert (await verifier.find(token)).tenant == "red"
    while await is_known(verifier, token):
        pass
    with pytest.raises(UnauthenticatedError, match="expired"):
        await verifier.find(token)


async def is_known(verifier: TokenVerifier, token: str) -> bool:
    """Whether the token is accepted."""
    try:
        await verifier.find(token)
    except UnauthenticatedError:
        return False
    return True


@dataclass
class Provider:
    """An identity provider: publishes keys over https, and counts how often it is asked."""

    url: str = ""
    keys: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    asked: int = 0


@contextmanager
def provide(folder: Path, authority: Authority) -> Iterator[Provider]:
    """Run one."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked += 1
            body = json.dumps({"keys": provider.keys}).encode()
            self.send_response(provider.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (so it is called there)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = authority.issue().write(folder, "provider")
    context.load_cert_chain(files["certificate"], files["key"])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    provider.url = f"https://localhost:{server.server_port}/jwks"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def test_keys_of_an_address_are_asked_for_when_they_change(tmp_path: Path) -> None:
    """A token of an unknown key has them asked for anew, but a thousand such tokens not a thousand times."""
    authority = Authority()
    context = ssl.create_default_context(cafile=authority.write(tmp_path))
    with provide(tmp_path, authority) as provider:
        settings = JwtSettings(issuer="https://id.test", audience="atelier", jwks_url=provider.url)
        source = RemoteKeySource(provider.url, context, pause_seconds=0.5)
        verifier = TokenVerifier(settings, source)
        provider.status = 503
        with pytest.raises(AuthenticationUnavailableError):
            await verifier.find(sign())
        provider.status, provider.keys = 200, [KEYS[0]]
        source = RemoteKeySource(provider.url, context, pause_seconds=0.5)
        verifier = TokenVerifier(settings, source)
        assert (await verifier.find(sign(RSA, "RS256", "rsa"))).tenant == "red"
        provider.keys, provider.asked = KEYS, 0
        while provider.asked == 0:  # the pause is not over
            with pytest.raises(UnauthenticatedError):
                await verifier.find(sign(kid="new"))
        assert (await verifier.find(sign())).tenant == "red"
        provider.status, provider.asked = 500, 0
        for number in range(1000):
            with pytest.raises(UnauthenticatedError):
                await verifier.find(sign(kid=f"unknown{number}"))
        assert provider.asked <= 20
        assert (await verifier.find(sign())).tenant == "red"  # the last good keys stay


async def test_a_server_knows_the_callers_of_a_provider(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Through the wire, with the tenant and the scopes of the token; reflection is open where it is meant to be."""
    authority = Authority()
    with provide(tmp_path, authority) as provider:
        provider.keys = KEYS
        provided = {"issuer": "https://id.test", "audience": "atelier", "jwks_url": provider.url}
        server = start_server(
            auth={"jwt": provided},
            reflection="everybody",
            environment={"SSL_CERT_FILE": authority.write(tmp_path)},
        )
        async with aio.insecure_channel(server.address) as channel:
            stub = GenerationServiceStub(channel)
            ann, bob = bearer(sign()), bearer(sign(tenant="blue", sub="bob", scope="read"))
            made = await stub.Generate(image_request(), metadata=ann, timeout=300)
            get = pb.GetGenerationRequest(generation_id=made.generation.id)
            assert (await stub.GetGeneration(get, metadata=ann)).generation == made.generation
            assert (await refusal(stub.GetGeneration(get, metadata=bob))).reason == "NOT_FOUND"
            denied = await refusal(stub.Generate(image_request(), metadata=bob))
            assert denied.code is grpc.StatusCode.PERMISSION_DENIED
            late = await refusal(stub.Generate(image_request(), metadata=bearer(sign(exp=PAST))))
            assert (late.code, late.message) == (
                grpc.StatusCode.UNAUTHENTICATED,
                "the token is not valid: it has expired",
            )
            empty = bearer(sign(scope=None))
            found = await refusal(stub.Health(pb.HealthRequest(), metadata=empty))
            assert found.reason == "PERMISSION_DENIED"
            assert "atelier.v1.GenerationService" in await list_services(channel, ())
        assert provider.asked == 1
