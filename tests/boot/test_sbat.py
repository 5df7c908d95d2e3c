# SPDX-License-Identifier: Apache-2.0
"""SBAT: what a loader says of itself, and what a shim asks for."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.boot.sbat import SbatEntry, read_sbat, read_sbat_level
from dpd.errors import MalformedImage

GRUB = (
    b"sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n"
    b"grub,5,Free Software Foundation,grub,2.06,https://www.gnu.org/software/grub/\n"
    b"grub.debian,5,Debian,grub2,2.06-13+deb12u2,https://tracker.debian.org/pkg/grub2\n"
)


def level(automatic: bytes, latest: bytes = b"sbat,1,2025051000\nshim,4\ngrub,5\n", version: int = 0) -> bytes:
    """A .sbatlevel section as shim's assembler lays it out."""
    texts = automatic + b"\0" + latest + b"\0"
    return struct.pack("<III", version, 8, 8 + len(automatic) + 1) + texts


def test_the_lines_of_a_loader() -> None:
    assert read_sbat(GRUB) == (
        SbatEntry("sbat", 1, "1"),
        SbatEntry("grub", 5, "2.06"),
        SbatEntry("grub.debian", 5, "2.06-13+deb12u2"),
    )


def test_what_stands_behind_the_end_of_the_text_is_padding() -> None:
    assert read_sbat(b"grub,4\n\0\0\xff") == (SbatEntry("grub", 4),)


def test_a_shim_asks_for_the_generations_that_it_applies_by_itself() -> None:
    assert read_sbat_level(level(b"sbat,1,2024040900\nshim,4\ngrub,4\n")) == {"shim": 4, "grub": 4}


@pytest.mark.parametrize(
    "section",
    [b"grub\n", b"grub,x\n", b",1\n", b"grub,-1\n", b"grub,\xb2\n", b"\xff,1\n", b"gr\tub,1\n", b"a,1\n" * 65],
)
def test_lines_without_component_and_generation_are_refused(section: bytes) -> None:
    with pytest.raises(MalformedImage) as caught:
        read_sbat(section)
    assert caught.value.reason == "bad_sbat"


@pytest.mark.parametrize(
    "section", [b"", bytes(11), level(b"sbat,1,1\n", version=1), struct.pack("<III", 0, 9000, 0), bytes(12)]
)
def test_a_level_without_its_text_is_refused(section: bytes) -> None:
    with pytest.raises(MalformedImage) as caught:
        read_sbat_level(section)
    assert caught.value.reason == "bad_sbat"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(section: bytes) -> None:
    for read in (read_sbat, read_sbat_level):
        with suppress(MalformedImage):
            read(section)
