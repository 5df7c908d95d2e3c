# SPDX-License-Identifier: Apache-2.0
"""The boot configuration of a Windows on a disk, as hivex exports it: element by element what `bcdboot` writes."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from tests.boot.hives import export, with_hivex
from tests.boot.test_bcd import hexed, number, text

from dpd.boot.bcd_store import gpt_partition, mbr_partition
from dpd.boot.disk_bcd import DiskBoot, make_disk_bcd

DISK, ESP, WINDOWS = (UUID(int=each) for each in (1, 2, 3))
YES, NO = hexed(3, b"\1"), hexed(3, b"\0")
BOOT = DiskBoot(True, gpt_partition(DISK, ESP), gpt_partition(DISK, WINDOWS), "Windows 11", "de-DE")
BOOTMGR, MEMDIAG = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}", "{b2721d73-1db4-4c62-bf78-c548a880142d}"
GLOBAL, LOADERS = "{7ea2e1ac-2e61-4728-aaa3-896d9d0a9f0e}", "{6efb52bf-1766-41db-a6b3-0ee5eff72bd7}"
RESUMES, HYPERVISOR = "{1afa9c49-16ab-4a5c-901b-212802da9460}", "{7ff607e0-4395-11db-b0de-0800200c9a66}"
DEBUGGER, EMS = "{4636856e-540f-4170-a130-a84776f4c654}", "{0ce4991b-e6b3-4b16-b23c-5e0d9250e5d9}"
BAD_MEMORY = "{5189b25c-5558-4bf2-bca4-289b11bd29e2}"


def those(*guids: str) -> str:
    return hexed(7, ("".join(f"{guid}\0" for guid in guids) + "\0").encode("utf-16-le"))


def elements(boot: DiskBoot, folder: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for key, values in export(make_disk_bcd(boot), folder).items():
        match key.split("\\"):
            case ["", "Objects", guid, "Elements", element]:
                found.setdefault(guid, {})[element] = values["Element"]
            case ["", "Objects", guid, "Description"]:
                found.setdefault(guid, {})["type"] = values["Type"]
    return found


@with_hivex
def test_every_element_of_a_uefi_disk_is_there(tmp_path: Path) -> None:
    loader, resume = f"{{{BOOT.loader}}}", f"{{{BOOT.resume}}}"
    system, windows = hexed(3, BOOT.system), hexed(3, BOOT.windows)
    assert elements(BOOT, tmp_path) == {
        BOOTMGR: {
            "type": "dword:10100002",
            "11000001": system,
            "12000002": text("\\EFI\\Microsoft\\Boot\\bootmgfw.efi"),
            "12000004": text("Windows Boot Manager"),
            "12000005": text("de-DE"),
            "14000006": those(GLOBAL),
            "23000003": text(loader),
            "23000006": text(resume),
            "24000001": those(loader),
            "24000010": those(MEMDIAG),
            "25000004": number(30),
        },
        loader: {
            "type": "dword:10200003",
            "11000001": windows,
            "12000002": text("\\Windows\\system32\\winload.efi"),
            "12000004": text("Windows 11"),
            "12000005": text("de-DE"),
            "14000006": those(LOADERS),
            "16000060": YES,
            "17000077": number(0x15000075),
            "21000001": windows,
            "22000002": text("\\Windows"),
            "23000003": text(resume),
            "25000020": number(0),
            "250000c2": number(1),
        },
        resume: {
            "type": "dword:10200004",
            "11000001": windows,
            "12000002": text("\\Windows\\system32\\winresume.efi"),
            "12000004": text("Windows Resume Application"),
            "12000005": text("de-DE"),
            "14000006": those(RESUMES),
            "16000060": YES,
            "17000077": number(0x15000075),
            "21000001": windows,
            "22000002": text("\\hiberfil.sys"),
            "25000008": number(1),
            "26000006": NO,
        },
        MEMDIAG: {
            "type": "dword:10200005",
            "11000001": system,
            "12000002": text("\\EFI\\Microsoft\\Boot\\memtest.efi"),
            "12000004": text("Windows Memory Diagnostic"),
            "12000005": text("de-DE"),
            "14000006": those(GLOBAL),
            "1600000b": YES,
        },
        GLOBAL: {"type": "dword:20100000", "14000006": those(DEBUGGER, EMS, BAD_MEMORY)},
        LOADERS: {"type": "dword:20200003", "14000006": those(GLOBAL, HYPERVISOR)},
        RESUMES: {"type": "dword:20200004", "14000006": those(GLOBAL)},
        HYPERVISOR: {
            "type": "dword:20200003",
            "250000f3": number(0),
            "250000f4": number(1),
            "250000f5": number(115200),
        },
        DEBUGGER: {"type": "dword:20100000", "15000011": number(4)},
        EMS: {"type": "dword:20100000", "16000020": NO},
        BAD_MEMORY: {"type": "dword:20100000"},
    }


@with_hivex
def test_a_bios_has_its_own_programs_and_a_boot_manager_without_a_path(tmp_path: Path) -> None:
    disk = mbr_partition(0x12345678, 1 << 20)
    boot = DiskBoot(False, disk, disk, has_memory_test=False)
    found = elements(boot, tmp_path)
    manager, loader, resume = found[BOOTMGR], found[f"{{{boot.loader}}}"], found[f"{{{boot.resume}}}"]
    assert not {"12000002", "24000010"} & set(manager)
    assert MEMDIAG not in found
    assert loader["12000002"] == text("\\Windows\\system32\\winload.exe")
    assert resume["12000002"] == text("\\Windows\\system32\\winresume.exe")


def test_the_same_disk_gives_the_same_store_and_another_partition_another_entry() -> None:
    assert make_disk_bcd(BOOT) == make_disk_bcd(BOOT)
    other = DiskBoot(True, BOOT.system, gpt_partition(DISK, UUID(int=4)))
    assert len({BOOT.loader, BOOT.resume, other.loader, other.resume}) == 4
