# SPDX-License-Identifier: Apache-2.0
"""Lists of boot loaders that firmware refuses by now: hashes and certificates, as a machine's dbx has them.

Read are the files that the UEFI Forum and Microsoft publish (`dbxupdate_x64.bin`: signature lists below the header of an
authenticated variable), bare signature lists, and texts with one hash a line. UEFI specification, sections 8.2 and 32.4.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from dpd.boot.pe import PeImage
from dpd.errors import SettingsError

MAX_LIST_BYTES = 1 << 20
CERT_SHA256 = UUID("c1c41626-504c-4092-aca9-41f936934328")
CERT_X509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
CERT_TYPE_PKCS7 = UUID("4aafd29d-68df-49ee-8aa9-347d375665a7")
_LIST = struct.Struct("<16sIII")
_AUTHENTICATION = struct.Struct("<16xIHH16s")  # EFI_TIME, then WIN_CERTIFICATE_UEFI_GUID
OWNER_BYTES = 16
WIN_CERT_TYPE_EFI_GUID = 0x0EF1


@dataclass(frozen=True, slots=True)
class Revocations:
    """What is revoked, in hexadecimal: images by Authenticode hash, certificates by fingerprint, both SHA-256."""

    images: frozenset[str] = frozenset()
    certificates: frozenset[str] = frozenset()

    def explain(self, image: PeImage) -> str:
        """What of an image is revoked, "" where nothing is. One revoked signature of several is enough, as for EDK2."""
        if image.authenticode_sha256 in self.images:
            return f"its hash {image.authenticode_sha256} is on the list"
        for signature in image.signatures:
            for place, fingerprint in enumerate(signature.fingerprints):
                if fingerprint in self.certificates:
                    return f"the certificate of {(signature.signer, *signature.authorities)[place]!r} is on the list"
        return ""


def read_revocations(paths: Iterable[Path]) -> Revocations:
    """All the lists together. Raises SettingsError that names the file."""
    images: set[str] = set()
    certificates: set[str] = set()
    for path in paths:
        try:
            content = path.read_bytes() if path.stat().st_size <= MAX_LIST_BYTES else None
        except OSError as error:
            raise SettingsError(f"{path}: revocation list: {error.strerror}") from None
        if content is None:
            raise SettingsError(f"{path}: revocation list: more than {MAX_LIST_BYTES} bytes")
        try:
            _read_list(content, images, certificates)
        except ValueError as error:
            raise SettingsError(f"{path}: revocation list: {error}") from None
    return Revocations(frozenset(images), frozenset(certificates))


def _read_list(content: bytes, images: set[str], certificates: set[str]) -> None:
    if content.isascii() and b"\0" not in content:
        images.update(_hashes(content.decode("ascii")))
        return
    rest = content[_header_bytes(content) :]
    while rest:
        rest = _read_signature_list(rest, images, certificates)


def _hashes(text: str) -> Iterable[str]:
    for number, line in enumerate(text.splitlines(), 1):
        value = line.partition("#")[0].strip().lower()
        if value and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError(f"line {number}: expected a SHA-256 in 64 hexadecimal digits")
        if value:
            yield value


def _header_bytes(content: bytes) -> int:
    """How long the header of an authenticated variable is, 0 where there is none."""
    if len(content) < _AUTHENTICATION.size:
        return 0
    length, _, kind, guid = _AUTHENTICATION.unpack_from(content)
    is_header = kind == WIN_CERT_TYPE_EFI_GUID and UUID(bytes_le=guid) == CERT_TYPE_PKCS7
    return 16 + int(length) if is_header else 0


def _read_signature_list(content: bytes, images: set[str], certificates: set[str]) -> bytes:
    """Take in one EFI_SIGNATURE_LIST; returns what comes after it."""
    if len(content) < _LIST.size:
        raise ValueError("neither a text of hashes nor EFI signature lists")
    guid, list_bytes, header_bytes, entry_bytes = _LIST.unpack_from(content)
    start = _LIST.size + header_bytes
    if entry_bytes <= OWNER_BYTES or not start <= list_bytes <= len(content) or (list_bytes - start) % entry_bytes:
        raise ValueError("neither a text of hashes nor EFI signature lists")
    for at in range(start, list_bytes, entry_bytes):
        value = content[at + OWNER_BYTES : at + entry_bytes]
        match UUID(bytes_le=guid):
            case kind if kind == CERT_SHA256 and len(value) == 32:
                images.add(value.hex())
            case kind if kind == CERT_X509:
                certificates.add(hashlib.sha256(value).hexdigest())
    return content[list_bytes:]
