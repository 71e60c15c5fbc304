"""A certificate and a key for each rented instance, made when it is ordered, and good for nothing else.

The instance gets its certificate with the private key, and a salted hash of the key that its one caller has. What the
gateway keeps is the certificate, which it trusts for that instance alone, and the key.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from atelier_engines.forwarding.config import ForwardingConfig

VARIABLE = "ATELIER_ISSUED_CREDENTIALS"
"""Environment variable from which `atelier serve` takes them, as the base 64 of a JSON object."""
SERVER_NAME = "worker.atelier.invalid"
"""Name in every certificate: the address of an instance is not known when it is ordered."""
_FOLDER = "workers"
_VALID = timedelta(days=366)
_CLOCK_DIFFERENCE = timedelta(days=1)
_KEY_ID = "gateway"
_SCOPES = ("generate", "read", "cancel")


class WorkerCredentials:
    """Certificates and keys of the instances by their labels, in files that the owner alone can read."""

    def __init__(self, directory: Path | None) -> None:
        """Keep them in that directory, for the next process; only as long as this one lives when None."""
        self._directory = directory
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def issue(self, label: str) -> Mapping[str, str]:
        """Make those of a new instance; returns the environment variables that its container needs.

        Raises:
            OSError: they cannot be written.
        """
        certificate, private_key = _make_certificate()
        secret = secrets.token_urlsafe(32)
        folder = self._find_folder()
        _write_private(folder / f"{_name(label)}.key", f"{_KEY_ID}.{secret}".encode())
        _write_private(folder / f"{_name(label)}.pem", certificate)
        content = {
            "certificate": certificate.decode(),
            "key": private_key.decode(),
            "keys": {"version": 1, "keys": [_hash_key(secret)]},
        }
        return {VARIABLE: base64.b64encode(json.dumps(content).encode()).decode()}

    def apply(self, label: str, worker: ForwardingConfig) -> ForwardingConfig | None:
        """The connection to the instance of that label; None if its certificate and key are not here."""
        certificate = self._find_folder() / f"{_name(label)}.pem"
        try:
            key = certificate.with_suffix(".key").read_text()
        except OSError:
            return None
        return worker.model_copy(
            update={
                "tls": True,
                "ca_file": certificate,
                "server_name": SERVER_NAME,
                "token": SecretStr(key),
            }
        )

    def forget_others(self, labels: Collection[str]) -> None:
        """Delete those of all other instances, which no longer exist."""
        if self._directory is None:
            return
        known = {_name(label) for label in labels}
        for path in self._find_folder().iterdir():
            if path.stem not in known:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete what was not to outlive the process."""
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def _find_folder(self) -> Path:
        if self._directory is None:
            self._temporary = self._temporary or tempfile.TemporaryDirectory(prefix="atelier-")
            return Path(self._temporary.name)
        folder = self._directory / _FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder


def _name(label: str) -> str:
    """The part of the label that no other instance has."""
    return "".join(letter for letter in label.rpartition("/")[2] if letter.isalnum())


def _make_certificate() -> tuple[bytes, bytes]:
    """A certificate that vouches for itself, and its private key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_DIFFERENCE)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), private


def _hash_key(secret: str) -> Mapping[str, object]:
    """The record of the key in the form of the server's file of keys."""
    salt = secrets.token_bytes(16)
    return {
        "id": _KEY_ID,
        "tenant": _KEY_ID,
        "subject": _KEY_ID,
        "scopes": _SCOPES,
        "created": datetime.now(UTC).isoformat(),
        "salt": salt.hex(),
        "sha256": hashlib.sha256(salt + secret.encode()).hexdigest(),
    }


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
