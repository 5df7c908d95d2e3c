# SPDX-License-Identifier: Apache-2.0
"""Stores of boot configuration data: devices byte by byte, values in the form of their elements."""

from __future__ import annotations

import struct
from pathlib import Path
from uuid import UUID

import pytest
from tests.boot.hives import export, with_hivex

from dpd.boot import bcd_store
from dpd.boot.bcd_store import Element, ObjectType

DISK, PARTITION = UUID("3f061e5f-9f0c-48bb-b4eb-7a317d1b6a5c"), UUID("00112233-4455-6677-8899-aabbccddeeff")


def test_a_partition_of_a_gpt_is_known_by_two_identities() -> None:
    assert bcd_store.gpt_partition(DISK, PARTITION).hex(" ", 4) == (
        "00000000 00000000 00000000 00000000"  # no options
        " 06000000 00000000 48000000 00000000"  # a partition, in 72 bytes
        " 33221100 55447766 8899aabb ccddeeff 00000000"
        " 00000000"  # GPT
        " 5f1e063f 0c9fbb48 b4eb7a31 7d1b6a5c"
        " 00000000 00000000 00000000 00000000"
    )


def test_a_partition_of_an_mbr_is_known_by_signature_and_place() -> None:
    assert bcd_store.mbr_partition(0x1D2C3B4A, 0x6500000).hex(" ", 4) == (
        "00000000 00000000 00000000 00000000"
        " 06000000 00000000 48000000 00000000"
        " 00005006 00000000 00000000 00000000 00000000"
        " 01000000"  # MBR
        " 4a3b2c1d 00000000 00000000 00000000"
        " 00000000 00000000 00000000 00000000"
    )


def test_the_ramdisk_device_tells_its_own_length_for_any_path() -> None:
    for path in ("", "\\x", "\\sources\\boot.wim", "\\" + "long" * 60):
        device = bcd_store.ramdisk_device(path, UUID(int=1))
        size = struct.unpack_from("<I", device, 16 + 8)[0]
        source = struct.unpack_from("<I", device, 16 + 0x2C)[0]
        assert size == len(device) - 16
        assert source == size - 0x28


@with_hivex
def test_only_a_systems_own_store_says_that_it_is_one(tmp_path: Path) -> None:
    a_list = bcd_store.store_object(DISK, ObjectType.OS_LOADER, {Element.ALLOWEDINMEMORYSETTINGS: (1, 0x15000075)})
    system, other = (
        export(bcd_store.write_store((a_list,), "\\BCD", is_system=each), tmp_path) for each in (True, False)
    )
    assert set(system["\\Description"]) == {"KeyName", "System", "TreatAsSystem"}
    assert set(other["\\Description"]) == {"KeyName"}
    listed = system[f"\\Objects\\{{{DISK}}}\\Elements\\17000077"]["Element"]
    assert listed == "hex(3):01,00,00,00,00,00,00,00,75,00,00,15,00,00,00,00"


def test_a_value_in_the_form_of_another_element_is_refused() -> None:
    with pytest.raises(ValueError, match="0x25000004: a str"):
        bcd_store.store_object(DISK, ObjectType.OS_LOADER, {Element.TIMEOUT: "30"})
