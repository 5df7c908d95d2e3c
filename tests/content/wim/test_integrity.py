# SPDX-License-Identifier: Apache-2.0
import random
import struct

import pytest
from tests.content.wim_builder import integrity_table

from dpd.content.wim.integrity import IntegrityVerifier, read_table
from dpd.errors import ContentCorrupt

START = 208
COVERED = random.Random(1).randbytes(1000)
FILE = bytes(START) + COVERED + b"XML and the table follow" * 10
END = START + len(COVERED)


def verify(content: bytes, *, chunk_bytes: int = 300, piece_bytes: int = 1 << 20) -> None:
    verifier = IntegrityVerifier(read_table(integrity_table(COVERED, chunk_bytes), START, END))
    for at in range(0, len(content), piece_bytes):
        verifier.update(memoryview(content)[at : at + piece_bytes])
    verifier.finish()


@pytest.mark.parametrize("piece_bytes", [1, 7, 208, 300, 508, 1000, 1 << 20])
@pytest.mark.parametrize("chunk_bytes", [1, 250, 300, 1000, 5000])
def test_a_sound_file_passes_in_pieces_of_any_size(chunk_bytes: int, piece_bytes: int) -> None:
    verify(FILE, chunk_bytes=chunk_bytes, piece_bytes=piece_bytes)


@pytest.mark.parametrize("piece_bytes", [1, 100, 1 << 20])
@pytest.mark.parametrize(
    ("at", "chunk"),
    [
        (208, "chunk 0 (bytes 208 to 507)"),
        (507, "chunk 0 (bytes 208 to 507)"),
        (508, "chunk 1 (bytes 508 to 807)"),
        (1207, "chunk 3 (bytes 1108 to 1207)"),
    ],
)
def test_one_flipped_bit_names_its_chunk(at: int, chunk: str, piece_bytes: int) -> None:
    damaged = bytearray(FILE)
    damaged[at] ^= 0x10
    with pytest.raises(ContentCorrupt) as refused:
        verify(bytes(damaged), piece_bytes=piece_bytes)
    assert chunk in str(refused.value)


@pytest.mark.parametrize("at", [0, 207, 1208])
def test_what_the_table_does_not_cover_is_not_its_business(at: int) -> None:
    changed = bytearray(FILE)
    changed[at] ^= 0x10
    verify(bytes(changed))


@pytest.mark.parametrize("length", [0, 208, 600, 1207])
def test_a_file_that_ends_early_is_refused_at_the_end(length: int) -> None:
    with pytest.raises(ContentCorrupt, match=f"ends at byte {length}, expected at least 1208"):
        verify(FILE[:length])


SOUND = integrity_table(COVERED, 300)
TABLES = {
    "short": (SOUND[:8], "8 bytes, expected at least 12"),
    "no chunk size": (SOUND[:8] + bytes(4) + SOUND[12:], "its chunks have 0 bytes"),
    "size": (struct.pack("<I", 93) + SOUND[4:], "it says 93 bytes and 4 chunks, but the header gives it 92"),
    "cut": (SOUND[:-20], "it says 92 bytes and 4 chunks, but the header gives it 72"),
    "entries": (SOUND[:4] + struct.pack("<I", 2**32 - 1) + SOUND[8:], "4294967295 chunks"),
    "chunk size": (SOUND[:8] + struct.pack("<I", 200) + SOUND[12:], "4 chunks of 200 bytes, expected 5 for bytes 208"),
}


@pytest.mark.parametrize("damage", TABLES)
def test_a_damaged_table_is_named(damage: str) -> None:
    table, reason = TABLES[damage]
    with pytest.raises(ContentCorrupt) as refused:
        read_table(table, START, END)
    assert reason in str(refused.value)
