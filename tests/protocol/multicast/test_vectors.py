# SPDX-License-Identifier: Apache-2.0
"""docs/multicast-vectors.json, which other implementations are tested with, is what this one does.

The erasure code's parity is computed a second time here, symbol by symbol from the formula of the document, so that
the vectors do not only say what our tables say.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dpd.content.manifest import SlabCheck, decode_signed, encode, join_signature
from dpd.content.signatures.signature import verify_control
from dpd.protocol.multicast import geometry, message
from dpd.protocol.multicast.fec import StandardCodec, encode_parity
from dpd.protocol.multicast.geometry import ROW_BYTES, SYMBOL_BYTES, Geometry, encode_slab_set
from dpd.protocol.multicast.leaves import leaf_of
from dpd.protocol.multicast.message import (
    HEADER_BYTES,
    SIGNATURE_BYTES,
    Beat,
    Control,
    Header,
    Message,
    MessageType,
    Nack,
    Ncf,
    Report,
    SlabDeficits,
    Symbol,
    Tally,
    decode_message,
)
from dpd.service.isal import best_codec
from dpd.service.sealing import Opener, Sealer

DOCS = Path(__file__).resolve().parents[3] / "docs"
VECTORS: dict[str, Any] = json.loads((DOCS / "multicast-vectors.json").read_text(encoding="utf-8"))
SECRET = bytes.fromhex(VECTORS["ed25519"]["secret"])
PUBLIC_KEY = bytes.fromhex(VECTORS["ed25519"]["public_key"])


def spelled(text: str) -> bytes:
    """Bytes as the document spells them: hexadecimal, and "xx x n" for a byte n times."""
    repeated = re.compile(r"\(?([0-9a-f]{2}) x (\d+)\)?")
    return bytes.fromhex(repeated.sub(lambda m: m[1] * int(m[2]), text))


def sign(body: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(SECRET).sign(bytes.fromhex(VECTORS["ed25519"]["context"]) + body)


def built(fields: dict[str, Any]) -> Message:
    """The message that a vector's fields describe."""
    header = fields["header"]
    kind = MessageType(header["type"])
    head = Header(**{**header, "type": kind})
    rest = {name: value for name, value in fields.items() if name != "header"}
    match kind:
        case MessageType.DATA | MessageType.PARITY:
            return Symbol(head, bytes([rest["payload"]["byte"]]) * rest["payload"]["times"])
        case MessageType.BEAT:
            return Beat(head, **{**rest, "representatives": tuple(rest["representatives"])})
        case MessageType.CONTROL:
            return Control(head, rest["reason"], tuple(rest["members"]))
        case MessageType.NCF:
            return Ncf(head, deficits(rest["slabs"]))
        case MessageType.NACK:
            return Nack(head, rest["member"], rest["seen_seq"], deficits(rest["slabs"]))
        case MessageType.REPORT:
            return Report(head, **{**rest, "tally": Tally(**rest["tally"]), "held": tuple(rest["held"])})


def deficits(slabs: list[dict[str, Any]]) -> tuple[SlabDeficits, ...]:
    return tuple(SlabDeficits(each["slab"], bytes.fromhex(each["deficits"])) for each in slabs)


def encoded(found: Message) -> bytes:
    if isinstance(found, Symbol):
        return found.header.encode() + found.payload
    return found.encode(sign) if isinstance(found, Beat | Control) else found.encode()


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda vector: str(vector["name"]))
def test_messages(vector: dict[str, Any]) -> None:
    wire = spelled(vector["wire"])
    found = built(vector["fields"])
    assert encoded(found) == wire
    assert decode_message(wire) == found
    if isinstance(found, Beat | Control):
        assert verify_control(PUBLIC_KEY, wire[:-SIGNATURE_BYTES], wire[-SIGNATURE_BYTES:])


def test_every_type_of_message_has_a_vector() -> None:
    assert {vector["fields"]["header"]["type"] for vector in VECTORS["messages"]} == set(MessageType)


def test_constants() -> None:
    known = {name.lower(): value for module in (geometry, message) for name, value in vars(module).items()}
    assert {name: known[name] for name in VECTORS["constants"]} == VECTORS["constants"]


def multiply(a: int, b: int) -> int:
    """In GF(256) modulo x^8 + x^4 + x^3 + x^2 + 1."""
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a = a << 1 ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return product


def divide(a: int, b: int) -> int:
    return next(quotient for quotient in range(256) if multiply(quotient, b) == a)


def stream(seed: str, size: int) -> bytes:
    blocks = (hashlib.sha256(f"{seed}/{i}".encode()).digest() for i in range(-(-size // 32)))
    return b"".join(blocks)[:size]


@pytest.mark.parametrize("vector", VECTORS["erasure_code"]["vectors"], ids=lambda vector: f"k={vector['k']}")
def test_erasure_code(vector: dict[str, Any]) -> None:
    k, size = vector["k"], VECTORS["erasure_code"]["symbol_bytes"]
    source = stream(f"k={k}", k * size)
    assert hashlib.sha256(source).hexdigest() == vector["source_sha256"]
    rows = bytearray(k * ROW_BYTES)
    for j in range(k):
        rows[j * ROW_BYTES : j * ROW_BYTES + size] = source[j * size : (j + 1) * size]
    for codec in (StandardCodec(), best_codec()):
        for row, expected in vector["parity"].items():
            (parity,) = encode_parity(codec, memoryview(rows), int(row), 1)
            assert bytes(parity[:size]).hex() == expected
    for row, expected in vector["parity"].items():
        coefficients = [divide(128 ^ j, (128 + int(row)) ^ j) for j in range(k)]
        by_formula = bytearray(size)
        for j, coefficient in enumerate(coefficients):
            products = bytes(multiply(coefficient, byte) for byte in range(256))
            for at, product in enumerate(source[j * size : (j + 1) * size].translate(products)):
                by_formula[at] ^= product
        assert by_formula.hex() == expected


@pytest.mark.parametrize("vector", VECTORS["slab_sets"], ids=str)
def test_slab_sets(vector: dict[str, Any]) -> None:
    slabs = sum(1 << slab for slab in vector["slabs"])
    assert encode_slab_set(slabs, vector["slab_count"]).hex() == vector["bytes"]


@pytest.mark.parametrize("vector", VECTORS["geometry"], ids=str)
def test_geometry(vector: dict[str, Any]) -> None:
    found = Geometry(vector["size_bytes"])
    last = found.slab_count - 1
    assert (found.slab_count, found.slab_bytes(last), found.rows(last)) == (
        vector["slab_count"],
        vector["last_slab_bytes"],
        vector["last_slab_rows"],
    )


@pytest.mark.parametrize("vector", VECTORS["leaves"], ids=lambda vector: str(vector["symbol"]))
def test_leaves(vector: dict[str, Any]) -> None:
    assert leaf_of(spelled(vector["symbol"])).hex() == vector["leaf"]


def test_sealed() -> None:
    vector = VECTORS["sealed"]
    key, salt, header = (bytes.fromhex(vector[name]) for name in ("key", "salt", "header"))
    plain, nonce = spelled(vector["plain"]), bytes.fromhex(vector["nonce"])
    sealed = AESGCM(key).encrypt(nonce, plain, header)
    assert hashlib.sha256(sealed).hexdigest() == vector["sealed_sha256"]
    assert (sealed[:32].hex(), sealed[-16:].hex()) == (vector["first_bytes"], vector["tag"])
    assert Sealer(key, salt).seal([header, plain]) == [header, sealed]
    assert Opener(key, salt).open(header, sealed) == plain
    assert (len(header), len(plain), len(sealed)) == (HEADER_BYTES, SYMBOL_BYTES, SYMBOL_BYTES + 16)


def test_manifest() -> None:
    document = VECTORS["manifest"]["document"].encode()
    manifest = decode_signed(document, PUBLIC_KEY)
    size = manifest.size_bytes
    content = b"".join(bytes([n % 251]) * SYMBOL_BYTES for n in range(-(-size // SYMBOL_BYTES)))[:size]
    assert manifest.sha256 == hashlib.sha256(content).hexdigest()
    slabs = [content[slice(*manifest.extent(slab))] for slab in range(manifest.slab_count)]
    assert manifest.slab_hashes == tuple(hashlib.sha256(slab).digest() for slab in slabs)
    assert all(SlabCheck(manifest).fits(slab, each) for slab, each in enumerate(slabs))
    signature = Ed25519PrivateKey.from_private_bytes(SECRET).sign(encode(manifest))
    assert join_signature(encode(manifest), PUBLIC_KEY, signature) == document
