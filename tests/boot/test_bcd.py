# SPDX-License-Identifier: Apache-2.0
"""The boot configuration for a network boot of WinPE, element by element as hivex exports it."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from tests.boot.hives import export, with_hivex

from dpd.boot.bcd import RamdiskBoot, make_bcd

BOOTMGR = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
RAMDISK_OPTIONS = "{7619dcc8-fafe-11d9-b411-000476eba25f}"
LOADER = "{7619dcc9-fafe-11d9-b411-000476eba25f}"


def hexed(kind: int, content: bytes) -> str:
    return f"hex({kind}):{content.hex(',')}"


def text(value: str) -> str:
    return hexed(1, value.encode("utf-16-le") + b"\0\0")


def number(value: int) -> str:
    return hexed(3, struct.pack("<Q", value))


YES, NO = hexed(3, b"\1"), hexed(3, b"\0")
# The bytes that bcdedit writes for `boot` and `ramdisk=[boot]\sources\boot.wim,{ramdiskoptions}`, field by field.
BOOT = struct.pack("<IIII", 5, 0, 0x48, 0) + bytes(0x38)
BOOT_DEVICE = hexed(3, bytes(16) + BOOT)
RAMDISK = hexed(
    3,
    bytes.fromhex("c8dc1976fefad911b411000476eba25f")  # {ramdiskoptions}
    + bytes.fromhex("00000000 01000000 a0000000 00000000")  # a local device with a parent, 160 bytes
    + bytes.fromhex("03000000") + bytes(20)  # of the kind RAM disk
    + bytes.fromhex("01000000 78000000 05000000")  # version 1, 120 bytes, path and device
    + BOOT + "\\sources\\boot.wim\0".encode("utf-16-le"),
)  # fmt: skip


def elements(boot: RamdiskBoot, folder: Path) -> dict[str, dict[str, str]]:
    """For each object its elements by number."""
    found: dict[str, dict[str, str]] = {}
    for key, values in export(make_bcd(boot), folder).items():
        match key.split("\\"):
            case ["", "Objects", guid, "Elements", element]:
                found.setdefault(guid, {})[element] = values["Element"]
            case ["", "Objects", guid, "Description"]:
                found.setdefault(guid, {})["type"] = values["Type"]
    return found


@with_hivex
def test_every_element_of_a_uefi_boot_is_there(tmp_path: Path) -> None:
    assert elements(RamdiskBoot(is_uefi=True, block_size=4096, window_size=8), tmp_path) == {
        BOOTMGR: {
            "type": "dword:10100002",
            "11000001": BOOT_DEVICE,
            "12000004": text("Windows Boot Manager"),
            "12000005": text("en-US"),
            "23000003": text(LOADER),
            "24000001": hexed(7, (LOADER + "\0\0").encode("utf-16-le")),
            "25000004": number(0),
            "26000020": NO,
        },
        RAMDISK_OPTIONS: {
            "type": "dword:30000000",
            "12000004": text("Ramdisk options"),
            "31000003": BOOT_DEVICE,
            "32000004": text("\\Boot\\boot.sdi"),
            "35000007": number(4096),
            "35000008": number(8),
            "36000009": NO,
            "3600000a": YES,
            "3600000b": YES,
        },
        LOADER: {
            "type": "dword:10200003",
            "11000001": RAMDISK,
            "12000002": text("\\Windows\\System32\\boot\\winload.efi"),
            "12000004": text("Windows PE"),
            "12000005": text("en-US"),
            "21000001": RAMDISK,
            "22000002": text("\\Windows"),
            "250000c2": number(0),
            "26000010": YES,
            "26000022": YES,
            "260000b0": NO,
        },
    }


@with_hivex
def test_hivexsh_opens_it_and_walks_through(tmp_path: Path) -> None:
    (tmp_path / "BCD").write_bytes(make_bcd(RamdiskBoot(True, block_size=16384)))
    walk = f"cd Objects\\{RAMDISK_OPTIONS}\\Elements\nls\ncd 35000007\nlsval\n"
    ran = subprocess.run(["hivexsh", tmp_path / "BCD"], input=walk.encode(), capture_output=True, check=True)
    *names, value = ran.stdout.decode().split()
    assert names == ["12000004", "31000003", "32000004", "35000007", "36000009", "3600000a", "3600000b"]
    assert value == '"Element"=hex(3):00,40,00,00,00,00,00,00'


@with_hivex
def test_a_bios_has_another_loader(tmp_path: Path) -> None:
    found = elements(RamdiskBoot(is_uefi=False), tmp_path)
    assert found[LOADER]["12000002"] == text("\\Windows\\System32\\boot\\winload.exe")


@with_hivex
def test_what_can_be_chosen_reaches_its_element(tmp_path: Path) -> None:
    boot = RamdiskBoot(
        True, "WinPE 11 für alle", "\\a\\b.wim", "\\b.sdi", 0, 64, variable_window=False, locale="de-DE", timeout_s=30
    )
    found = elements(boot, tmp_path)
    options = found[RAMDISK_OPTIONS]
    assert (options["32000004"], options["35000008"], options["3600000b"]) == (text("\\b.sdi"), number(64), NO)
    assert "35000007" not in options  # the loader's own block size
    assert found[BOOTMGR]["25000004"] == number(30)
    assert found[BOOTMGR]["12000005"] == found[LOADER]["12000005"] == text("de-DE")
    assert found[LOADER]["12000004"] == text("WinPE 11 für alle")
    assert found[LOADER]["11000001"].endswith("\\a\\b.wim\0".encode("utf-16-le").hex(","))


@with_hivex
def test_load_options_are_the_loaders_and_only_where_there_are_any(tmp_path: Path) -> None:
    found = elements(RamdiskBoot(True, load_options="dpd.affinity=auto"), tmp_path)
    assert found[LOADER]["12000030"] == text("dpd.affinity=auto")
    assert "12000030" not in found[BOOTMGR] | elements(RamdiskBoot(True), tmp_path)[LOADER]


@with_hivex
def test_the_store_says_what_it_is(tmp_path: Path) -> None:
    assert export(make_bcd(RamdiskBoot(True)), tmp_path)["\\Description"] == {"KeyName": text("BCD00000000")}


def test_it_is_small_enough_for_the_first_seconds_of_a_boot() -> None:
    assert len(make_bcd(RamdiskBoot(True))) <= 16384
