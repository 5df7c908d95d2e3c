# SPDX-License-Identifier: Apache-2.0
"""An operator's own certificate authority: a server's certificate from it, and the list by which firmware learns of it."""

from __future__ import annotations

import ipaddress
import struct
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

EFI_CERT_X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")  # UEFI specification, section 32.4.1
OWNER = uuid.UUID("77777777-0000-4000-8000-000000000000")


class TlsAuthority:
    """A root of its own, with RSA keys: what every firmware can verify."""

    def __init__(self, name: str = "Test boot authority") -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.certificate = (
            _begin(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def issue(self, directory: Path, address: str) -> tuple[Path, Path]:
        """A certificate for a server at this address, and its key: PEM files."""
        key = rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, address)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        certificate = (
            _begin(subject, self._name, key.public_key())
            .add_extension(names, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = directory / "server.pem", directory / "server.key"
        files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files

    def signature_list(self) -> bytes:
        """The root as an EFI_SIGNATURE_LIST, which is what the variable TlsCaCertificate holds."""
        encoded = self.certificate.public_bytes(Encoding.DER)
        entry_bytes = 16 + len(encoded)
        header = EFI_CERT_X509.bytes_le + struct.pack("<III", 28 + entry_bytes, 0, entry_bytes)
        return header + OWNER.bytes_le + encoded


def _begin(subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))  # firmware's clock may be local time
        .not_valid_after(now + timedelta(days=30))
    )
