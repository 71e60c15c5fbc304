"""Credentials of the addresses of gRPC and HTTP, from files that may be replaced while the server runs."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from atelier_server.config.security_settings import TlsSettings
from atelier_server.metrics import CERTIFICATE_EXPIRY
from atelier_server.reloading import Reloaded

Certificates = Reloaded[grpc.ServerCertificateConfiguration]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServerTls:
    """What encrypts the gRPC address."""

    certificates: Certificates
    """The certificate with its key, and the authorities of clients."""
    paths: Sequence[Path]
    """Files of the certificate, of its key, and of the authorities of clients if they must show a certificate."""
    requires_client: bool
    """Whether clients must show a certificate."""

    def make_credentials(self) -> grpc.ServerCredentials:
        """Those of one gRPC server: another one cannot use the same.

        They show the newest certificate in every handshake; connections that stand are not touched.
        """
        return grpc.dynamic_ssl_server_credentials(
            self.certificates.value,
            _follow(self.certificates),  # type: ignore[arg-type]  # grpc's types lack the None that it allows
            require_client_authentication=self.requires_client,
        )

    def make_context(self) -> ssl.SSLContext:
        """The same for a server of HTTP.

        Raises:
            OSError: the files cannot be read any more.
        """
        context = _load_context(self.paths)
        shown = self.certificates.value

        def refresh(connection: ssl.SSLObject, _name: str, _context: ssl.SSLContext) -> None:
            """Called in every handshake."""
            nonlocal context, shown
            if self.certificates.value is not shown:
                context, shown = _load_context(self.paths), self.certificates.value
            connection.context = context

        context.sni_callback = refresh
        return context


def open_tls(settings: TlsSettings) -> ServerTls:
    """Read the files of the settings.

    Raises:
        ConfigurationError: a file cannot be read or is no PEM, or the key is another certificate's.
    """
    paths: list[Path] = [settings.certificate, settings.key]
    requires_client = settings.client_certificates == "required"
    if requires_client and settings.client_ca is not None:
        paths.append(settings.client_ca)
    certificates = Certificates("tls", paths, _parse)
    return ServerTls(certificates=certificates, paths=tuple(paths), requires_client=requires_client)


def _load_context(paths: Sequence[Path]) -> ssl.SSLContext:
    certificate, key, *authorities = paths
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    if authorities:
        context.load_verify_locations(authorities[0])
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _follow(
    certificates: Certificates,
) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
    """What gRPC calls in every handshake, in threads of its own: a new configuration, or None for no change."""
    shown = certificates.value

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        newest = certificates.value
        if newest is shown:
            return None
        shown = newest
        return newest

    return fetch


def _parse(contents: Sequence[bytes]) -> grpc.ServerCertificateConfiguration:
    """Check what gRPC would not: with a wrong pair, it fails every handshake instead of the change."""
    certificate, key, *authorities = contents
    leaf = _load_certificates(certificate, "certificate")[0]
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:  # TypeError where it has a password
        msg = "key is no PEM file of a private key without a password"
        raise ValueError(msg) from error
    if private.public_key() != leaf.public_key():
        msg = "key does not belong to the first certificate of certificate"
        raise ValueError(msg)
    for authority in authorities:
        _load_certificates(authority, "client_ca")
    CERTIFICATE_EXPIRY.set(leaf.not_valid_after_utc.timestamp())
    return grpc.ssl_server_certificate_configuration(
        [(key, certificate)], authorities[0] if authorities else None
    )


def _load_certificates(content: bytes, name: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        msg = f"{name} has no certificate in PEM form"
        raise ValueError(msg) from error
