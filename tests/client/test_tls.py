"""Clients and commands reach servers with TLS and keys, and say what to change where they do not."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from atelier_client import AsyncClient, Client, Tls
from atelier_client.errors import (
    AccessDeniedError,
    InvalidRequestError,
    ServerUnreachableError,
    TlsError,
)
from tests.certificates import Authority
from tests.client.atelier_command import atelier
from tests.conftest import RunningServer, StartServer, launch
from tests.server.test_auth import make_key


@dataclass(frozen=True, slots=True)
class Secured:
    """A server with TLS and keys, and what a client needs for it."""

    server: RunningServer
    ca: str
    certificate: str
    key: str
    token: str

    @property
    def options(self) -> tuple[str, ...]:
        """What the command line needs."""
        return ("--tls-ca", self.ca, "--cert", self.certificate, "--key", self.key)

    @property
    def tls(self) -> Tls:
        """The same for the Python client."""
        return Tls(ca=self.ca, certificate=self.certificate, key=self.key)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A server that wants everything: TLS, a certificate of its clients, and a key."""
    folder, authority = tmp_path_factory.mktemp("secured"), Authority()
    ca, keys = authority.write(folder), folder / "keys.json"
    token = make_key(keys)
    own = authority.issue("https://client.test", subject="a client").write(folder, "client")
    running = launch(
        folder,
        tls={
            **authority.issue().write(folder),
            "client_ca": ca,
            "client_certificates": "required",
        },
        auth={"keys": {"file": str(keys)}},
    )
    yield Secured(running, ca, own["certificate"], own["key"], token)
    running.kill()


async def test_both_clients_use_certificates_and_a_key(secured: Secured) -> None:
    """Given as files and as text."""
    with Client(secured.server.address, tls=secured.tls, token=secured.token) as client:
        assert client.generate("a lamp", engine="sketch", width=64, height=64).images[0].data
    url = f"https://{secured.server.address}"
    async with AsyncClient(url, tls=secured.tls, token=secured.token) as other:
        assert (await other.health()).version


async def test_the_token_of_the_environment_is_used(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless another is given, or none on purpose."""
    monkeypatch.setenv("ATELIER_TOKEN", secured.token)
    with Client(secured.server.address, tls=secured.tls) as client:
        assert client.health().version
    with (
        Client(secured.server.address, tls=secured.tls, token="") as nobody,
        pytest.raises(AccessDeniedError, match="ATELIER_TOKEN"),
    ):
        nobody.health()


async def test_a_command_takes_files_and_a_key(secured: Secured, tmp_path: Path) -> None:
    """As options, or the key from the environment."""
    server = ("--server", secured.server.address)
    home = str(tmp_path)
    by_option = await atelier(
        *("health", *server, *secured.options, "--token", secured.token), XDG_CONFIG_HOME=home
    )
    assert (by_option.code, by_option.err) == (0, "")
    without = await atelier("health", *server, *secured.options, XDG_CONFIG_HOME=home)
    assert without.code == 2
    assert "ATELIER_TOKEN" in without.err


async def test_a_login_is_remembered(secured: Secured, tmp_path: Path) -> None:
    """In a file for its owner alone; commands need nothing more then, until the logout."""
    home, url = str(tmp_path), f"https://{secured.server.address}"
    wrong = await atelier(
        "login", url, *secured.options, stdin=b"ak0.wrong\n", XDG_CONFIG_HOME=home
    )
    assert (wrong.code, "the key is not valid" in wrong.err) == (2, True)
    path = tmp_path / "atelier" / "servers.json"
    assert not path.exists()
    done = await atelier(
        *("login", url, *secured.options), stdin=f"{secured.token}\n".encode(), XDG_CONFIG_HOME=home
    )
    assert done.code == 0, done.err
    assert secured.token not in done.out + done.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for server in ((), ("--server", secured.server.address)):
        known = await atelier("engines", "--json", *server, XDG_CONFIG_HOME=home)
        assert (known.code, known.err) == (0, "")
    elsewhere = await atelier("health", "--server", "127.0.0.1:1", XDG_CONFIG_HOME=home)
    assert "cannot reach the server at 127.0.0.1:1" in elsewhere.err
    assert (await atelier("logout", url, XDG_CONFIG_HOME=home)).code == 0
    assert json.loads(path.read_text()) == {"default": "", "servers": {}}


async def test_a_client_says_that_the_server_wants_tls(secured: Secured) -> None:
    """And which certificate is missing."""
    with (
        Client(secured.server.address, reconnect_timeout_seconds=0.1) as plain,
        pytest.raises(ServerUnreachableError, match="does it speak TLS\\? Then use https"),
    ):
        plain.health()
    with (
        Client(secured.server.address, tls=Tls(ca=secured.ca)) as bare,
        pytest.raises(ServerUnreachableError, match="does it require a certificate of yours"),
    ):
        bare.health()
    with (
        Client(f"https://{secured.server.address}") as suspicious,
        pytest.raises(TlsError, match="is not trusted: give that of its authority"),
    ):
        suspicious.health()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:{port}", "does it speak TLS\\? Then use https"),
        ("https://localhost:{port}", "is its certificate one that you trust|is not trusted"),
    ],
)
def test_localhost_is_told_the_same(secured: Secured, url: str, words: str) -> None:
    """It has two addresses for gRPC, which tells of the last one alone, where the server does not listen."""
    port = secured.server.address.rpartition(":")[2]
    with (
        Client(url.format(port=port), reconnect_timeout_seconds=0.1) as client,
        pytest.raises((ServerUnreachableError, TlsError), match=words),
    ):
        client.health()


async def test_a_client_says_that_the_server_speaks_no_tls(
    server: RunningServer, tmp_path: Path
) -> None:
    """At once: trying again would not help."""
    with (
        Client(f"https://{server.address}") as client,
        pytest.raises(TlsError, match="speaks plain text"),
    ):
        client.generate("a lamp")
    ca = Authority().write(tmp_path)
    command = await atelier(
        *("generate", "a lamp", "--server", server.address, "--tls-ca", ca, "--engine", "sketch"),
        XDG_CONFIG_HOME=str(tmp_path),
    )
    assert command.code == 2
    assert "the server speaks plain text" in command.err


async def test_a_certificate_for_another_name_is_named(
    start_server: StartServer, tmp_path: Path
) -> None:
    """As that of another server, at this address."""
    authority = Authority()
    other = authority.issue("https://other.test").write(tmp_path)
    server = start_server(tls=other, allow_insecure=True)
    with (
        Client(server.address, tls=Tls(ca=authority.write(tmp_path))) as client,
        pytest.raises(TlsError, match="for another name"),
    ):
        client.health()


@pytest.mark.parametrize(
    ("server", "tls", "reason"),
    [
        ("http://localhost:1", Tls(), "an http URL is plain text"),
        ("localhost:1", Tls(certificate="a.pem"), "needs its key"),
        ("localhost:1", Tls(ca="missing.pem"), "tls: cannot read ca missing.pem: no such file"),
    ],
)
def test_wrong_certificates_are_named(server: str, tls: Tls, reason: str) -> None:
    """Before anything is called."""
    with pytest.raises(InvalidRequestError, match=reason):
        Client(server, tls=tls)
