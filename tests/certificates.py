"""Certificates for tests: an authority that exists as long as the test."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_LOCAL = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str = "server") -> dict[str, str]:
        """Write both files; returns their paths by the names that the configuration has for them."""
        folder.mkdir(exist_ok=True)
        paths = {"certificate": folder / f"{name}.pem", "key": folder / f"{name}.key"}
        paths["certificate"].write_bytes(self.certificate)
        paths["key"].write_bytes(self.key)
        return {kind: str(path) for kind, path in paths.items()}


class Authority:
    """Issues certificates."""

    def __init__(self, name: str = "an authority of a test") -> None:
        """Make the authority's own."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        builder = _build(self._name, self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self._certificate = builder.sign(self._key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self._certificate.public_bytes(Encoding.PEM)

    def write(self, folder: Path, name: str = "ca.pem") -> str:
        """Write its certificate; returns the path."""
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(self.pem)
        return str(folder / name)

    def issue(self, *names: str, subject: str = "a server") -> Pair:
        """A certificate for this machine, or for these URIs."""
        key = ec.generate_private_key(ec.SECP256R1())
        san = [x509.UniformResourceIdentifier(name) for name in names] or _LOCAL
        builder = _build(_name(subject), self._name, key.public_key()).add_extension(
            x509.SubjectAlternativeName(san), critical=False
        )
        signed = builder.sign(self._key, hashes.SHA256())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Pair(signed.public_bytes(Encoding.PEM), private)

    def credentials(self, pair: Pair | None = None) -> grpc.ChannelCredentials:
        """Of a client that trusts it alone, and shows the pair."""
        if pair is None:
            return grpc.ssl_channel_credentials(self.pem)
        return grpc.ssl_channel_credentials(self.pem, pair.key, pair.certificate)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _build(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )
