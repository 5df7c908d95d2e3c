# SPDX-License-Identifier: Apache-2.0
"""What a machine is, read from a /proc and /sys made by hand."""

from __future__ import annotations

from pathlib import Path

from dpd.sequence.records import Disk
from dpd.target.work.facts import as_told, gather, memory


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text + "\n")
    return root


def machine(root: Path, **more: str) -> Path:
    return put(
        root,
        {
            "proc/meminfo": "MemTotal:        2048 kB\nMemAvailable:    1024 kB\nSwapTotal: 0 kB",
            "sys/class/dmi/id/sys_vendor": "LENOVO",
            "sys/class/dmi/id/product_name": "20XW",
            "sys/class/dmi/id/product_serial": "To Be Filled By O.E.M.",
            "sys/class/dmi/id/product_uuid": "AABBCCDD-0011-2233-4455-66778899AABB",
            "sys/class/net/lo/address": "00:00:00:00:00:00",
            "sys/class/net/br0/address": "52:54:00:00:00:99",
            "sys/class/net/eth0/address": "52:54:00:00:00:01",
            "sys/class/net/eth0/device/vendor": "0x1af4",
            "sys/class/net/eth0/operstate": "up",
            "sys/block/nvme0n1/size": "2048",
            "sys/block/nvme0n1/device/model": "Fast",
            "sys/block/sda/size": "4096",
            "sys/block/sda/removable": "1",
            "sys/block/sdb/size": "4096",
            "sys/block/sdc/size": "4096",
            "sys/block/sdc/ro": "1",
            "sys/block/loop0/size": "4096",
            "sys/block/sr0/size": "4096",
            "sys/block/mmcblk0boot0/size": "8192",
            "sys/block/empty/size": "0",
            **more,
        },
    )


def test_a_machine_is_told_with_blanks_left_blank(tmp_path: Path) -> None:
    facts = gather(machine(tmp_path), "x86_64")
    assert (facts.architecture, facts.firmware, facts.ram_bytes) == ("x64", "bios", 2 << 20)
    assert (facts.vendor, facts.model, facts.serial) == ("LENOVO", "20XW", "")
    assert facts.guid == "aabbccdd-0011-2233-4455-66778899aabb"
    assert facts.macs == ("52:54:00:00:00:01", "52:54:00:00:00:99")
    assert facts.is_wired is True
    assert facts.is_on_ac_power is True


def test_disks_are_those_that_take_a_system_the_removable_ones_last(tmp_path: Path) -> None:
    facts = gather(machine(tmp_path), "x86_64")
    assert facts.disks == (
        Disk("/dev/nvme0n1", 1 << 20, "Fast"),
        Disk("/dev/sdb", 2 << 20),
        Disk("/dev/sda", 2 << 20),
    )


def test_disks_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    put(tmp_path, {f"sys/block/nvme{number}n1/size": "8" for number in (10, 2, 1)})
    assert [disk.device for disk in gather(tmp_path).disks] == ["/dev/nvme1n1", "/dev/nvme2n1", "/dev/nvme10n1"]


def test_uefi_arm_wireless_and_battery_are_seen(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        **{
            "sys/firmware/efi/fw_platform_size": "64",
            "sys/class/net/eth0/operstate": "down",
            "sys/class/net/wlan0/operstate": "up",
            "sys/class/net/wlan0/wireless/x": "",
            "sys/class/power_supply/BAT0/type": "Battery",
            "sys/class/power_supply/AC/type": "Mains",
            "sys/class/power_supply/AC/online": "0",
        },
    )
    facts = gather(root, "aarch64")
    assert (facts.architecture, facts.firmware, facts.is_wired, facts.is_on_ac_power) == ("arm64", "uefi", False, False)


def test_a_machine_that_tells_nothing_has_facts_all_the_same(tmp_path: Path) -> None:
    facts = gather(tmp_path, "riscv64")
    assert (facts.architecture, facts.ram_bytes, facts.disks, facts.macs) == ("riscv64", 0, (), ())
    assert facts.is_wired is None


def test_this_machine_has_memory_and_what_is_told_is_json() -> None:
    import json

    facts = gather()
    assert facts.ram_bytes > memory()["MemAvailable"] > 0
    assert json.loads(json.dumps(as_told(facts)))["ram_bytes"] == facts.ram_bytes
