# SPDX-License-Identifier: Apache-2.0
"""What a firmware trusts, exchanged in OVMF's variable store: the authorities in db, so that machines of either generation of
Microsoft's certificates can be had (EDK2: MdeModulePkg/Include/Guid/VariableFormat.h; UEFI specification, section 32.4)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dpd.boot.der import read_element
from dpd.boot.pe_layout import read_layout, signature_blocks

IMAGE_SECURITY_DATABASE = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
CERT_X509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
MICROSOFT = UUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")  # the owner that Microsoft asks for
STORE_HEADER_BYTES = 28
VARIABLE = struct.Struct("<HBBI8s16s4sII16s")  # AUTHENTICATED_VARIABLE_HEADER
START, ADDED, DELETED = 0x55AA, 0x3F, 0x3D


def trust_only(store: bytes, *authorities: x509.Certificate) -> bytes:
    """A variable store in which db holds these certificates and nothing else."""
    changed = bytearray(store)
    end, replaced = 0, b""
    for at, header, name in _variables(store):
        end = _next(at, header)
        if name == "db" and header[1] == ADDED:
            changed[at + 2] = DELETED
            content = b"".join(map(_signature_list, authorities))
            replaced = VARIABLE.pack(*header[:8], len(content), header[9]) + "db\0".encode("utf-16-le") + content
    assert replaced, "no db in this variable store"
    changed[end : end + len(replaced)] = replaced
    return bytes(changed)


def _variables(store: bytes) -> Iterator[tuple[int, tuple[int | bytes, ...], str]]:
    at = int.from_bytes(store[48:50], "little") + STORE_HEADER_BYTES
    while int.from_bytes(store[at : at + 2], "little") == START:
        header = VARIABLE.unpack_from(store, at)
        name_at = at + VARIABLE.size
        yield at, header, store[name_at : name_at + header[7]].decode("utf-16-le").rstrip("\0")
        at = _next(at, header)


def _next(at: int, header: tuple[int | bytes, ...]) -> int:
    end = at + VARIABLE.size + int(header[7]) + int(header[8])
    return end + -end % 4


def _signature_list(certificate: x509.Certificate) -> bytes:
    encoded = certificate.public_bytes(Encoding.DER)
    entry_bytes = 16 + len(encoded)
    return CERT_X509.bytes_le + struct.pack("<III", 28 + entry_bytes, 0, entry_bytes) + MICROSOFT.bytes_le + encoded


def carried_certificates(loader: bytes) -> dict[str, x509.Certificate]:
    """The certificates that the signatures of a loader carry, by common name."""
    found = {}
    file = BytesIO(loader)
    for block in signature_blocks(file, read_layout(file)):
        signed = read_element(block)[0].children()[1].children()[0]
        for element in signed.children()[3].children():
            certificate = x509.load_der_x509_certificate(element.encoded)
            (name,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            found[str(name.value)] = certificate
    return found


def keep_signature(loader: bytes, number: int) -> bytes:
    """The loader with this one of its signatures alone."""
    file = BytesIO(loader)
    layout = read_layout(file)
    block = list(signature_blocks(file, layout))[number]
    table = struct.pack("<IHH", 8 + len(block), 0x0200, 2) + block + bytes(-len(block) % 8)
    entry = struct.pack("<II", layout.certificates_at, len(table))
    at = layout.certificates_entry
    return loader[:at] + entry + loader[at + 8 : layout.certificates_at] + table
