# SPDX-License-Identifier: Apache-2.0
"""Revocation lists in the forms in which they are published."""

from __future__ import annotations

import hashlib
import struct
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from tests.boot.signing import authority, make_pe, sign

from dpd.boot.pe import read_pe
from dpd.boot.revocations import CERT_SHA256, CERT_TYPE_PKCS7, CERT_X509, Revocations, read_revocations
from dpd.errors import SettingsError

FIRST, SECOND = hashlib.sha256(b"first").digest(), hashlib.sha256(b"second").digest()


def signature_list(kind: bytes, *values: bytes) -> bytes:
    entry_bytes = 16 + len(values[0])
    entries = b"".join(bytes(16) + value for value in values)
    return kind + struct.pack("<III", 28 + len(entries), 0, entry_bytes) + entries


def authenticated(lists: bytes, signature: bytes = b"\x30\x03\x02\x01\x01") -> bytes:
    """As an update of the variable dbx is published."""
    return (
        bytes(16)
        + struct.pack("<IHH", 24 + len(signature), 0x0200, 0x0EF1)
        + CERT_TYPE_PKCS7.bytes_le
        + signature
        + lists
    )


def read(directory: Path, content: bytes) -> Revocations:
    (directory / "dbx").write_bytes(content)
    return read_revocations([directory / "dbx"])


def test_a_text_of_hashes(tmp_path: Path) -> None:
    text = f"# shims before 15.3\n{FIRST.hex()}\n\n{SECOND.hex().upper()}  # 2021\n"
    assert read(tmp_path, text.encode()) == Revocations(frozenset({FIRST.hex(), SECOND.hex()}))


def test_an_empty_list(tmp_path: Path) -> None:
    assert read(tmp_path, b"") == Revocations()


@pytest.mark.parametrize("wrap", [bytes, authenticated], ids=["bare", "authenticated update"])
def test_signature_lists(tmp_path: Path, wrap: type[bytes]) -> None:
    certificate = authority("Revoked CA").chain[0].public_bytes(Encoding.DER)
    lists = signature_list(CERT_SHA256.bytes_le, FIRST, SECOND) + signature_list(CERT_X509.bytes_le, certificate)
    assert read(tmp_path, wrap(lists)) == Revocations(
        frozenset({FIRST.hex(), SECOND.hex()}), frozenset({hashlib.sha256(certificate).hexdigest()})
    )


def test_entries_of_other_types_are_passed_over(tmp_path: Path) -> None:
    assert read(tmp_path, signature_list(bytes(16), b"x" * 20)) == Revocations()


def test_several_lists_add_up(tmp_path: Path) -> None:
    for name, value in (("a", FIRST), ("b", SECOND)):
        (tmp_path / name).write_text(value.hex())
    assert read_revocations([tmp_path / "a", tmp_path / "b"]).images == {FIRST.hex(), SECOND.hex()}


def test_one_revoked_signature_of_two_is_told() -> None:
    old, new = authority("CA 2011").issue("Old"), authority("CA 2023").issue("New")
    image = read_pe(BytesIO(sign(make_pe(), new, old)))
    revoked = Revocations(certificates=frozenset({image.signatures[1].fingerprints[1]}))
    assert revoked.explain(image) == "the certificate of 'CA 2011' is on the list"
    assert Revocations().explain(image) == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"0123\n", "line 1: expected a SHA-256 in 64 hexadecimal digits"),
        (b"<html></html>\n", "line 1: expected"),
        (b"\x00" * 40, "neither a text of hashes nor EFI signature lists"),
        (b"\xff\xfe\x00", "neither a text of hashes nor EFI signature lists"),
        (signature_list(CERT_SHA256.bytes_le, FIRST)[:-1], "neither"),
        (authenticated(signature_list(CERT_SHA256.bytes_le, FIRST) + b"rest"), "neither"),
        (b"0" * ((1 << 20) + 1), "more than 1048576 bytes"),
    ],
    ids=["short", "page", "zeros", "bytes", "cut", "rest", "large"],
)
def test_what_is_no_list_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(SettingsError, match=f"dbx: revocation list: {message}"):
        read(tmp_path, content)


def test_a_list_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="dbx: revocation list: No such file"):
        read_revocations([tmp_path / "dbx"])


@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    with suppress(SettingsError):
        read(tmp_path_factory.getbasetemp(), authenticated(content))
