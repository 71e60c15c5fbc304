"""Certificates of a connection, and what a failed handshake means."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import grpc

from atelier_client.errors import InvalidRequestError

_CONNECTION_CLOSED = ("Socket closed", "Connection reset", "recvmsg", "GOAWAY")
"""What gRPC writes where the other side ends a connection that was never one of gRPC."""

_THIS_MACHINE = "localhost"
_PROBE_SECONDS = 0.5
_ASK_FOR_TLS = "; does it speak TLS? Then use https://HOST:PORT, or --tls-ca with the certificate of its authority"
_ASK_FOR_CERTIFICATE = (
    "; does it require a certificate of yours (--cert and --key, Tls(certificate=…, key=…))?"
)
_ASK_WHY_NOT = (
    "; a server listens there at another address of this machine: is its certificate one that you trust (--tls-ca, "
    "Tls(ca=…)), does it require one of yours (--cert and --key), or does it speak plain text (http://HOST:PORT)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How the connection to a server is encrypted. Each file is PEM, and is read when the client is made."""

    ca: str | Path | None = None
    """Authorities whose servers are trusted; those of the system when None."""
    certificate: str | Path | None = None
    """Certificate of this client, for servers that require one."""
    key: str | Path | None = None
    """Its private key."""
    server_name: str = ""
    """The name that the server's certificate has, where that is not the one in the address."""

    def load(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            InvalidRequestError: one cannot be read, or only one of certificate and key is given.
        """
        if (self.certificate is None) != (self.key is None):
            raise InvalidRequestError("a client certificate needs its key: give both or neither")
        return grpc.ssl_channel_credentials(
            _read(self.ca, "ca"), _read(self.key, "key"), _read(self.certificate, "certificate")
        )


def explain_handshake(message: str) -> str:
    """What is wrong with the encryption, from what gRPC says of a failed connection; empty if it is nothing known."""
    if "WRONG_VERSION_NUMBER" in message:
        return "the server speaks plain text, and TLS was asked for: use http://HOST:PORT, without certificates"
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return (
            "the certificate of the server is not trusted: give that of its authority (--tls-ca, Tls(ca=…)); or it "
            "has expired"
        )
    if "Hostname Verification" in message or "not in peer certificate" in message:
        return "the certificate of the server is for another name: use a name that it has"
    return ""


def hint_at_encryption(
    message: str, *, is_secure: bool, endpoint: tuple[str, int] | None = None
) -> str:
    """What may be wrong with the encryption where a connection is closed at once; else empty.

    Args:
        message: what gRPC says of the failed connection.
        is_secure: whether it was made over TLS.
        endpoint: host and port, where they are known.
    """
    if "failed to connect" not in message:
        return ""
    if any(sign in message for sign in _CONNECTION_CLOSED):
        return _ASK_FOR_CERTIFICATE if is_secure else _ASK_FOR_TLS
    if endpoint is not None and _listens_here(endpoint):
        return _ASK_WHY_NOT if is_secure else _ASK_FOR_TLS
    return ""


def _listens_here(endpoint: tuple[str, int]) -> bool:
    """Whether something listens on this machine, by its name.

    gRPC takes that for 127.0.0.1 and ::1, and tells of the last one alone; many servers listen at the first one alone.
    """
    if endpoint[0] != _THIS_MACHINE:
        return False
    try:
        socket.create_connection(endpoint, _PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def _read(path: str | Path | None, name: str) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InvalidRequestError(f"tls: cannot read {name} {path}: {reason}") from error
