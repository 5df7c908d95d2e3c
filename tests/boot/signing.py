# SPDX-License-Identifier: Apache-2.0
"""Boot loaders and signers made for tests: a PE image of a few hundred bytes, and certificates of any name.

The signature is put together here from the text of the two standards, so that `dpd.boot` is not its own witness; sbverify
and osslsigncode judge it in tests/interop/test_signed_loaders.py.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

X86, X64, ARM64 = 0x014C, 0x8664, 0xAA64
ALIGNMENT = 0x200
OPTIONAL_BYTES = 240
PE_AT = 64
CHECKSUM_AT = PE_AT + 24 + 64
DIRECTORY_AT = PE_AT + 24 + 112 + 8 * 4
SHA256 = "608648016503040201"
RSA = "2a864886f70d010101"


def make_pe(
    *sections: tuple[str, bytes], machine: int = X64, subsystem: int = 10, filler: bytes = b"\xc3", tail: bytes = b""
) -> bytes:
    """A PE32+ image with a .text of `filler` and these sections; `tail` stands behind the last one."""
    contents = [(".text", filler), *sections]
    headers_bytes = ALIGNMENT * 2
    at, table, body = headers_bytes, b"", b""
    for name, content in contents:
        padded = content + bytes(-len(content) % ALIGNMENT)
        table += struct.pack("<8sIIII16x", name.encode(), len(content), at, len(padded), at)
        body += padded
        at += len(padded)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", machine, len(contents), 0, 0, 0, OPTIONAL_BYTES, 0x22)
    optional = bytearray(OPTIONAL_BYTES)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<II", optional, 56, at, headers_bytes)
    struct.pack_into("<IH", optional, 64, 0, subsystem)
    struct.pack_into("<II", optional, 32, ALIGNMENT, ALIGNMENT)
    struct.pack_into("<I", optional, 108, 16)
    dos = b"MZ" + bytes(58) + struct.pack("<I", PE_AT)
    headers = dos + coff + optional + table
    return headers + bytes(headers_bytes - len(headers)) + body + tail


def sbat(*lines: str) -> tuple[str, bytes]:
    """A .sbat section of these lines below its own first one."""
    return ".sbat", "".join(f"{line}\n" for line in ("sbat,1,SBAT Version,sbat,1,https://example.org", *lines)).encode()


def authenticode(image: bytes, algorithm: str = "sha256") -> bytes:
    """The hash of an unsigned image without gaps: all of it but two fields."""
    kept = image[:CHECKSUM_AT] + image[CHECKSUM_AT + 4 : DIRECTORY_AT] + image[DIRECTORY_AT + 8 :]
    return hashlib.new(algorithm, kept).digest()


@dataclass(frozen=True, slots=True)
class Signer:
    """A key and the chain of its certificate, its own first."""

    key: rsa.RSAPrivateKey
    chain: tuple[x509.Certificate, ...]

    def issue(self, name: str) -> Signer:
        """Somebody whom this one vouches for."""
        key = _key()
        return Signer(key, (_certificate(name, key, self), *self.chain))


def authority(name: str) -> Signer:
    """A root."""
    key = _key()
    return Signer(key, (_certificate(name, key, None),))


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _certificate(name: str, key: rsa.RSAPrivateKey, issuer: Signer | None) -> x509.Certificate:
    subject = x509.Name(
        [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Test"), x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]
    )
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.chain[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return builder.sign(issuer.key if issuer else key, hashes.SHA256())


def sign(image: bytes, *signers: Signer, certificates: bool = True, digest: bytes = b"") -> bytes:
    """The image with one signature of each; `digest` in place of the true hash, certificates left out on demand."""
    image += bytes(-len(image) % 8)
    table = b""
    for signer in signers:
        block = _signed_data(digest or authenticode(image), signer, certificates)
        table += struct.pack("<IHH", 8 + len(block), 0x0200, 2) + block + bytes(-len(block) % 8)
    at = struct.pack("<II", len(image), len(table))
    return image[:DIRECTORY_AT] + at + image[DIRECTORY_AT + 8 :] + table


def _signed_data(image_digest: bytes, signer: Signer, certificates: bool) -> bytes:
    data = _seq(_oid("2b06010401823702010f"), _seq(_der(0x03, b"\0"), _der(0xA0, _der(0xA2, _der(0x80)))))
    content = data + _seq(_algorithm(SHA256), _der(0x04, image_digest))
    attributes = _seq(_oid("2a864886f70d010903"), _der(0x31, _oid("2b060104018237020104")))
    attributes += _seq(_oid("2a864886f70d010904"), _der(0x31, _der(0x04, hashlib.sha256(content).digest())))
    signature = signer.key.sign(_der(0x31, attributes), padding.PKCS1v15(), hashes.SHA256())
    own = signer.chain[0]
    serial = own.serial_number.to_bytes(own.serial_number.bit_length() // 8 + 1, "big")
    info = _seq(
        _der(0x02, b"\1"),
        _seq(own.issuer.public_bytes(), _der(0x02, serial)),
        _algorithm(SHA256),
        _der(0xA0, attributes),
        _algorithm(RSA),
        _der(0x04, signature),
    )
    carried = b"".join(c.public_bytes(Encoding.DER) for c in signer.chain) if certificates else b""
    signed = _seq(
        _der(0x02, b"\1"),
        _der(0x31, _algorithm(SHA256)),
        _seq(_oid("2b060104018237020104"), _der(0xA0, _seq(content))),
        _der(0xA0, carried),
        _der(0x31, info),
    )
    return _seq(_oid("2a864886f70d010702"), _der(0xA0, signed))


def _algorithm(oid: str) -> bytes:
    return _seq(_oid(oid), _der(0x05))


def _seq(*parts: bytes) -> bytes:
    return _der(0x30, b"".join(parts))


def _oid(encoded: str) -> bytes:
    return _der(0x06, bytes.fromhex(encoded))


def _der(tag: int, content: bytes = b"") -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content
