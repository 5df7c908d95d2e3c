# SPDX-License-Identifier: Apache-2.0
"""A Windows on NTFS is made to start: on real tables of loop devices, read back by hivex and sfdisk."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from uuid import UUID

import pytest
from tests.boot.hives import export, with_hivex
from tests.target.stage import FACTS, MIB, Stage, need, run, staged_disk
from tests.target.windows_tree import make_windows

from dpd.target.steps import install_boot_loader
from dpd.target.work.step_failure import StepFailed

WINDOWS = '{ name = "windows", size = "rest", kind = "windows", format = "ntfs" }'
ESP = '{ name = "esp", size = "40MiB", kind = "esp", format = "ext4" }'  # this kernel may have no FAT
MSR = '{ name = "msr", size = "16MiB", kind = "msr" }'
CONTENT = '{ name = "content", size = "40MiB", kind = "data", format = "ext4" }'
DO = 'do = "install_boot_loader"\nvolume = "windows"\n'
BIOS = dataclasses.replace(FACTS, firmware="bios")
BOOTMGR = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"


def entries(store: Path, folder: Path) -> tuple[dict[str, bytes | str], dict[str, bytes | str]]:
    """The boot manager's elements and those of its default entry, as hivex tells."""
    found: dict[str, dict[str, bytes | str]] = {}
    for key, values in export(store.read_bytes(), folder).items():
        match key.split("\\"):
            case ["", "Objects", guid, "Elements", element]:
                kind, _, content = values["Element"].partition(":")
                raw = bytes.fromhex(content.replace(",", ""))
                found.setdefault(guid, {})[element] = raw.decode("utf-16-le")[:-1] if kind == "hex(1)" else raw
    manager = found[BOOTMGR]
    return manager, found[str(manager["23000003"])]


def table_of(stage: Stage) -> dict[str, object]:
    told: dict[str, dict[str, object]] = json.loads(run("sfdisk", "--json", stage.volumes.find("windows").disk))
    return told["partitiontable"]


@with_hivex
def test_by_uefi_the_boot_manager_is_where_firmware_looks_and_its_store_names_the_partitions(tmp_path: Path) -> None:
    need("mkntfs", "ntfs-3g")
    with staged_disk(tmp_path, [ESP, MSR, WINDOWS]) as stage:
        root = make_windows(stage.volumes.folder("windows"), newer=False)
        for _ in range(2):  # a step that is done again leaves the same
            said = install_boot_loader.run(stage.work(DO + 'esp = "esp"'))
        assert said.startswith("Windows' boot manager on esp, signed below Microsoft's authority of 2011: 7 files")
        esp = stage.volumes.folder("esp")
        names = {str(each.relative_to(esp)) for each in (esp / "EFI").rglob("*") if each.is_file()}
        assert names == {"EFI/BOOT/BOOTX64.EFI"} | {
            f"EFI/Microsoft/Boot/{name}"
            for name in (
                *("BCD", "bootmgfw.efi", "bootmgr.efi", "memtest.efi", "boot.stl", "de-DE/bootmgfw.efi.mui"),
                *("Fonts/wgl4_boot.ttf", "Resources/bootres.dll"),
            )
        }
        loader = root / "Windows/Boot/EFI/bootmgfw.efi"
        assert (esp / "EFI/BOOT/BOOTX64.EFI").read_bytes() == loader.read_bytes()
        manager, entry = entries(esp / "EFI/Microsoft/Boot/BCD", tmp_path)
        table = table_of(stage)
        disk = UUID(str(table["id"])).bytes_le
        first, _, third = (UUID(each["uuid"]).bytes_le for each in table["partitions"])  # type: ignore[attr-defined]
        for device, partition in ((manager["11000001"], first), (entry["11000001"], third), (entry["21000001"], third)):
            assert isinstance(device, bytes)
            assert (device[32:48], device[56:72]) == (partition, disk)
        assert manager["12000002"] == "\\EFI\\Microsoft\\Boot\\bootmgfw.efi"
        assert (entry["12000002"], entry["22000002"]) == ("\\Windows\\system32\\winload.efi", "\\Windows")
        assert entry["12000005"] == "de-DE"


@with_hivex
def test_by_bios_a_free_boot_record_hands_over_to_windows_own_boot_manager(tmp_path: Path) -> None:
    need("mkntfs", "ntfs-3g", "grub-mkimage")
    if not Path("/usr/lib/grub/i386-pc/ntldr.mod").is_file():
        pytest.skip("missing: grub-pc-bin")
    with staged_disk(tmp_path, [CONTENT, WINDOWS], table="mbr", facts=BIOS) as stage:
        root = make_windows(stage.volumes.folder("windows"))
        before = table_of(stage)
        said = install_boot_loader.run(stage.work(DO))
        disk = stage.volumes.find("windows").disk
        assert said == f"GRUB's boot record on {disk} and Windows' boot manager on windows: 4 files and its BCD"
        assert {each.name for each in root.iterdir()} >= {"bootmgr", "BOOTNXT", "Boot", "Windows"}
        names = {str(each.relative_to(root / "Boot")) for each in (root / "Boot").rglob("*") if each.is_file()}
        assert names == {
            *("BCD", "memtest.exe", "de-DE/bootmgr.exe.mui", "Fonts/wgl4_boot.ttf", "Resources/bootres.dll"),
        }
        _, entry = entries(root / "Boot/BCD", tmp_path)
        device = entry["11000001"]
        assert isinstance(device, bytes)
        assert int.from_bytes(device[32:48], "little") == 41 * MIB
        assert int.from_bytes(device[56:60], "little") == int(str(before["id"]), 16)
        after = table_of(stage)
        assert [each.get("bootable") for each in after["partitions"]] == [None, True]  # type: ignore[attr-defined]
        assert after["id"] == before["id"]
        with Path(disk).open("rb") as file:
            first = file.read(512)
            assert first[:2] == b"\xeb\x63"  # GRUB's boot.img jumps over what a floppy would have
            assert file.read(512) != bytes(512)


@pytest.mark.parametrize(
    ("missing", "esp", "table", "said"),
    [
        ("Windows/System32/winload.efi", True, "gpt", "winload.efi: is not on the volume"),
        ("Windows/Boot/PCAT/bootmgr", False, "mbr", "PCAT/bootmgr: is not on the volume"),
        ("", False, "gpt", "has a GPT, from which Windows does not start by BIOS"),
    ],
)
def test_a_windows_that_will_not_start_that_way_is_told(
    tmp_path: Path, missing: str, esp: bool, table: str, said: str
) -> None:
    need("mkntfs", "ntfs-3g")
    facts = FACTS if esp else BIOS
    with staged_disk(tmp_path, [ESP, WINDOWS], table=table, facts=facts) as stage:
        root = make_windows(stage.volumes.folder("windows"))
        if missing:
            (root / missing).unlink()
        with pytest.raises(StepFailed, match=said):
            install_boot_loader.run(stage.work(DO + ('esp = "esp"' if esp else "")))
