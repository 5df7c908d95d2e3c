# SPDX-License-Identifier: Apache-2.0
"""An authority of certificates for servers on loopback and for their clients, as PEM files."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


class Authority:
    """A root; `file` is its certificate."""

    def __init__(self, directory: Path, name: str = "Test authority") -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(name)
        root = _begin(self._name, self._name, self._key.public_key(), timedelta(days=1)).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file = directory / "ca.pem"
        self.file.write_bytes(root.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def issue(
        self,
        *names: str,
        file: str = "",
        usage: x509.ObjectIdentifier | None = None,
        life: timedelta = timedelta(days=1),
    ) -> tuple[str, str]:
        """A certificate and its key, the paths; each name is a common name."""
        key = ec.generate_private_key(ec.SECP256R1())
        loopback = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        )
        new = _begin(_subject(*names), self._name, key.public_key(), life).add_extension(loopback, critical=False)
        if usage is not None:
            new = new.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        stem = file or names[0]
        pem, private = self._directory / f"{stem}.pem", self._directory / f"{stem}.key"
        pem.write_bytes(new.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return str(pem), str(private)


def _subject(*names: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name) for name in names])


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    begin = now - timedelta(days=2)
    return x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), begin, now + life)
