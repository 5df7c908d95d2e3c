# SPDX-License-Identifier: Apache-2.0
"""The layout of PE images: what the Authenticode hash covers, and that broken headers are refused by name."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from tests.boot.signing import CHECKSUM_AT, DIRECTORY_AT, PE_AT, authenticode, make_pe

from dpd.boot.pe_layout import authenticode_digest, read_layout, section_text, signature_blocks
from dpd.errors import MalformedImage

OPTIONAL = PE_AT + 24
SECTION = OPTIONAL + 240


def digest(image: bytes, algorithm: str = "sha256") -> bytes:
    file = BytesIO(image)
    return authenticode_digest(file, read_layout(file), algorithm)


def read_all(image: bytes) -> None:
    """Everything that a signature is judged by."""
    file = BytesIO(image)
    layout = read_layout(file)
    authenticode_digest(file, layout, "sha256")
    list(signature_blocks(file, layout))


def patched(at: int, form: str, *values: int, tail: bytes = b"") -> bytes:
    image = bytearray(make_pe())
    struct.pack_into(form, image, at, *values)
    return bytes(image) + tail


def test_the_hash_of_an_unsigned_image() -> None:
    image = make_pe((".data", b"data"), tail=b"overlay!")
    for algorithm in ("sha1", "sha256", "sha512"):
        assert digest(image, algorithm) == authenticode(image, algorithm)


def test_the_checksum_is_not_hashed() -> None:
    image = make_pe()
    assert digest(patched(CHECKSUM_AT, "<I", 0x12345678)) == digest(image)


@pytest.mark.parametrize("at", [3, 0x401, -1], ids=["header", "text", "overlay"])
def test_every_other_byte_is_hashed(at: int) -> None:
    image = bytearray(make_pe(tail=b"overlay!"))
    original = digest(bytes(image))
    image[at] ^= 0xFF
    assert digest(bytes(image)) != original


def test_sections_are_hashed_by_their_place_in_the_file_not_in_the_table() -> None:
    image = bytearray(make_pe((".data", b"data")))
    image[SECTION : SECTION + 80] = image[SECTION + 40 : SECTION + 80] + image[SECTION : SECTION + 40]
    assert digest(bytes(image)) == authenticode(bytes(image))


def test_the_blocks_of_the_certificate_table_are_padded_to_eight_bytes() -> None:
    other = struct.pack("<IHH", 12, 0x200, 1) + b"x509\0\0\0\0"  # a type that firmware passes over
    table = (
        struct.pack("<IHH", 11, 0x200, 2) + b"abc\0\0\0\0\0" + other + struct.pack("<IHH", 16, 0x200, 2) + b"abcdefgh"
    )
    file = BytesIO(patched(DIRECTORY_AT, "<II", len(make_pe()), len(table), tail=table))
    assert list(signature_blocks(file, read_layout(file))) == [b"abc", b"abcdefgh"]


def test_a_section_is_found_by_its_name_and_ends_where_it_is_used() -> None:
    file = BytesIO(make_pe((".sbat", b"text")))
    layout = read_layout(file)
    assert (section_text(file, layout, b".sbat"), section_text(file, layout, b".none")) == (b"text", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cut_short"),
        (b"#!ipxe\n" + bytes(100), "no_pe"),
        (b"\x7fELF" + bytes(100), "no_pe"),
        (make_pe()[:70], "cut_short"),
        (make_pe()[:200], "cut_short"),
        (make_pe()[:-1], "bad_sections"),
        (patched(60, "<I", 0xFFFFFFF0), "no_pe"),
        (patched(PE_AT, "<I", 0), "no_pe"),
        (patched(PE_AT + 6, "<H", 0), "bad_sections"),
        (patched(PE_AT + 6, "<H", 0xFFFF), "bad_headers"),
        (patched(PE_AT + 20, "<H", 100), "no_pe"),
        (patched(OPTIONAL, "<H", 0x107), "no_pe"),
        (patched(OPTIONAL + 60, "<I", 0x10000), "bad_headers"),
        (patched(OPTIONAL + 60, "<I", 64), "bad_headers"),
        (patched(SECTION + 20, "<I", 0xFFFFFFFF), "bad_sections"),
        (patched(SECTION + 16, "<II", 0x600, 0), "bad_sections"),
        (patched(SECTION + 20, "<I", 0x200, tail=bytes(0x400)), "bad_sections"),
        (patched(DIRECTORY_AT, "<II", 8, 8), "bad_certificate_table"),
        (patched(DIRECTORY_AT, "<II", 0x600, 8, tail=bytes(16)), "bad_certificate_table"),
        (patched(DIRECTORY_AT, "<II", 0x600, 8, tail=bytes(8)), "bad_certificate_table"),
        (patched(DIRECTORY_AT, "<II", 0x600, 16, tail=struct.pack("<IHH8x", 99, 0x200, 2)), "bad_certificate_table"),
    ],
)
def test_a_broken_image_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(MalformedImage) as caught:
        read_all(content)
    assert caught.value.reason == reason, str(caught.value)
