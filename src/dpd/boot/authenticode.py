# SPDX-License-Identifier: Apache-2.0
"""Signatures of boot loaders: CMS over the Authenticode hash of the file ("Windows Authenticode Portable Executable
Signature Format", Microsoft, 2008; RFC 5652).

What is judged here is what the file itself can tell: that the signature covers these bytes and was made by the key of a
certificate that it carries. Whether that certificate is trusted is the firmware's to say, by its db and dbx.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from dpd.boot.der import Element, Tag, read_element
from dpd.errors import MalformedImage

SIGNED_DATA = bytes.fromhex("2a864886f70d010702")  # 1.2.840.113549.1.7.2
INDIRECT_DATA = bytes.fromhex("2b060104018237020104")  # 1.3.6.1.4.1.311.2.1.4, SpcIndirectDataContent
MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")  # 1.2.840.113549.1.9.4
DIGESTS: dict[bytes, tuple[str, hashes.HashAlgorithm]] = {
    bytes.fromhex("2b0e03021a"): ("sha1", hashes.SHA1()),
    bytes.fromhex("608648016503040201"): ("sha256", hashes.SHA256()),
    bytes.fromhex("608648016503040202"): ("sha384", hashes.SHA384()),
    bytes.fromhex("608648016503040203"): ("sha512", hashes.SHA512()),
}
MAX_AUTHORITIES = 8

ImageDigest = Callable[[str], bytes]


class SignatureFault(StrEnum):
    """Why firmware will not take a signature, whomever it trusts."""

    CHANGED = "changed"  # the file is not the one that was signed
    FORGED = "forged"  # the signer's key did not make this signature
    NO_CERTIFICATE = "no_certificate"  # the signer's certificate is not in the block
    UNSUPPORTED = "unsupported"  # no RSA key, or an unknown digest


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signed, by common names: the signer, who issued its certificate, and whoever stands above in the block."""

    signer: str
    issuer: str
    authorities: tuple[str, ...] = ()
    digest: str = "sha256"
    fault: SignatureFault | None = None
    fingerprints: tuple[str, ...] = ()  # SHA-256 of the certificates: the signer's, then the authorities'


@dataclass(frozen=True, slots=True)
class _Block:
    """The parts of a SignedData that matter."""

    content: Element  # SpcIndirectDataContent
    image_digest: bytes
    image_algorithm: bytes
    certificates: list[Element]
    signer: list[Element]  # of the one SignerInfo


def read_signature(block: bytes, digest_of_image: ImageDigest) -> Signature:
    """The signature in one WIN_CERTIFICATE; `digest_of_image` hashes the file by a digest's name. Raises MalformedImage."""
    try:
        return _read(block, digest_of_image)
    except (ValueError, IndexError, x509.InvalidVersion):  # too few parts, or certificates that cannot be read
        raise MalformedImage("bad_signature_block", "not one signature over a boot loader's hash") from None


def _read(block: bytes, digest_of_image: ImageDigest) -> Signature:
    parts = _split(block)
    issuer, serial = parts.signer[1].expect(Tag.SEQUENCE).children()[:2]
    encoded = next((c for c in parts.certificates if _identity(c) == (issuer.encoded, serial.encoded)), None)
    digest = DIGESTS.get(parts.image_algorithm)
    name = digest[0] if digest else "unknown"
    if encoded is None:
        return Signature("", "", (), name, SignatureFault.NO_CERTIFICATE)
    certificate = x509.load_der_x509_certificate(encoded.encoded)
    fault = SignatureFault.UNSUPPORTED if digest is None else _find_fault(parts, certificate, digest_of_image(name))
    authorities = _authorities(certificate, parts.certificates)
    return Signature(
        signer=_common_name(certificate.subject),
        issuer=_common_name(certificate.issuer),
        authorities=tuple(_common_name(each.subject) for each in authorities),
        digest=name,
        fault=fault,
        fingerprints=tuple(each.fingerprint(hashes.SHA256()).hex() for each in (certificate, *authorities)),
    )


def _split(block: bytes) -> _Block:
    outer, rest = read_element(block)
    if rest.strip(b"\0"):
        raise MalformedImage("bad_signature_block", f"{len(rest)} bytes after the signature")
    kind, wrapped = outer.expect(Tag.SEQUENCE).children()
    _expect_type(kind, SIGNED_DATA)
    fields = wrapped.expect(Tag.CONTEXT_0).children()[0].expect(Tag.SEQUENCE).children()
    kind, wrapped = fields[2].expect(Tag.SEQUENCE).children()
    _expect_type(kind, INDIRECT_DATA)
    content = wrapped.expect(Tag.CONTEXT_0).children()[0].expect(Tag.SEQUENCE)
    algorithm, digest = content.children()[1].expect(Tag.SEQUENCE).children()
    (signer,) = fields[-1].expect(Tag.SET).children()
    return _Block(
        content=content,
        image_digest=digest.expect(Tag.OCTET_STRING).content,
        image_algorithm=_algorithm(algorithm),
        certificates=fields[3].children() if fields[3].tag == Tag.CONTEXT_0 else [],
        signer=signer.expect(Tag.SEQUENCE).children(),
    )


def _expect_type(element: Element, oid: bytes) -> None:
    if element.expect(Tag.OBJECT_IDENTIFIER).content != oid:
        raise MalformedImage(
            "bad_signature_block", f"content type {element.content.hex()} is no Authenticode signature"
        )


def _algorithm(element: Element) -> bytes:
    """The object identifier of an AlgorithmIdentifier."""
    return element.expect(Tag.SEQUENCE).children()[0].expect(Tag.OBJECT_IDENTIFIER).content


def _identity(certificate: Element) -> tuple[bytes, bytes]:
    """Issuer and serial number as they are encoded: names are compared byte for byte, as firmware does."""
    fields = certificate.children()[0].expect(Tag.SEQUENCE).children()
    serial, _, issuer = fields[1:4] if fields[0].tag == Tag.CONTEXT_0 else fields[0:3]
    return issuer.encoded, serial.encoded


def _find_fault(parts: _Block, certificate: x509.Certificate, image_digest: bytes) -> SignatureFault | None:
    if parts.image_digest != image_digest:
        return SignatureFault.CHANGED
    algorithm, rest = DIGESTS.get(_algorithm(parts.signer[2])), parts.signer[3:]
    key = _public_key(certificate)
    if algorithm is None or key is None:
        return SignatureFault.UNSUPPORTED
    signed = parts.content.content  # without tag and length
    if rest[0].tag == Tag.CONTEXT_0:
        if _attribute(rest[0], MESSAGE_DIGEST) != hashlib.new(algorithm[0], signed).digest():
            return SignatureFault.FORGED
        signed = bytes((Tag.SET,)) + rest[0].encoded[1:]  # RFC 5652 section 5.4
        rest = rest[1:]
    try:
        key.verify(rest[1].expect(Tag.OCTET_STRING).content, signed, padding.PKCS1v15(), algorithm[1])
    except (InvalidSignature, UnsupportedAlgorithm):
        return SignatureFault.FORGED
    return None


def _public_key(certificate: x509.Certificate) -> rsa.RSAPublicKey | None:
    """UEFI firmware verifies RSA alone."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, rsa.RSAPublicKey) else None


def _attribute(attributes: Element, oid: bytes) -> bytes | None:
    """The one octet string of a signed attribute."""
    for attribute in attributes.children():
        kind, values = attribute.expect(Tag.SEQUENCE).children()[:2]
        if kind.content == oid:
            return values.expect(Tag.SET).children()[0].expect(Tag.OCTET_STRING).content
    return None


def _authorities(certificate: x509.Certificate, encoded: list[Element]) -> list[x509.Certificate]:
    """The issuers of the signer's certificate, from the nearest upwards, as far as the block has their certificates and
    each has really signed the one below."""
    known = [x509.load_der_x509_certificate(each.encoded) for each in encoded]
    found: list[x509.Certificate] = []
    at = certificate
    while len(found) < MAX_AUTHORITIES:
        above = next((c for c in known if c.subject == at.issuer and c != at and _has_issued(c, at)), None)
        if above is None:
            break
        found.append(above)
        at = above
    return found


def _has_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _common_name(name: x509.Name) -> str:
    """The last common name, made safe to show; "" where there is none."""
    values = [str(a.value) for a in name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return "".join(c if c.isprintable() else "?" for c in values[-1][:128]) if values else ""
