# SPDX-License-Identifier: Apache-2.0
"""Names of option 93 against IANA's registry."""

import csv
from pathlib import Path

import pytest
from tests.protocol.pxe.test_rules import machine

from dpd.protocol.pxe.architectures import ARCH_NAMES, arch_name, processor
from dpd.protocol.pxe.rules import ClientClass

REGISTRY = Path(__file__).parents[2] / "data" / "iana-processor-architecture-types.csv"
# What a word of the registry is called here. The longest that fits counts.
WORDS = {
    "x86 bios": "bios",
    "pc/at bios": "bios",
    "nec/pc98": "nec-pc98",
    "itanium": "itanium",
    "dec alpha": "alpha",
    "arc x86": "arc-x86",
    "intel lean client": "lean-client",
    "x86 uefi": "uefi-x86",
    "x64 uefi": "uefi-x64",
    "efi xscale": "xscale",
    "arm 32-bit uefi": "uefi-arm32",
    "arm uefi 32": "uefi-arm32",
    "arm 64-bit uefi": "uefi-arm64",
    "arm uefi 64": "uefi-arm64",
    "powerpc open firmware": "powerpc-openfirmware",
    "powerpc epapr": "powerpc-epapr",
    "power opal": "powerpc-opal",
    "arm 32 uboot": "uboot-arm32",
    "arm uboot 32": "uboot-arm32",
    "arm 64 uboot": "uboot-arm64",
    "arm uboot 64": "uboot-arm64",
    "risc-v 32-bit": "uefi-riscv32",
    "risc-v 64-bit": "uefi-riscv64",
    "risc-v 128-bit": "uefi-riscv128",
    "s390 basic": "s390-basic",
    "s390 extended": "s390-extended",
    "mips 32-bit": "mips32",
    "mips 64-bit": "mips64",
    "sunway 32-bit": "sunway32",
    "sunway 64-bit": "sunway64",
    "loongarch 32-bit": "uefi-loongarch32",
    "loongarch 64-bit": "uefi-loongarch64",
    "arm rpiboot": "arm-rpiboot",
}
ERRATUM = {9: "uefi-x64", 17: "uefi-ebc-http"}  # registered as EBC


def registry() -> dict[int, str]:
    with REGISTRY.open(encoding="utf-8", newline="") as file:
        return {
            int(row["Type"].replace(" 0x", ""), 16): row["Architecture Name"].lower() for row in csv.DictReader(file)
        }


def test_the_registry_goes_from_0_to_41() -> None:
    assert sorted(registry()) == list(range(42))


@pytest.mark.parametrize("code", range(42))
def test_each_registered_number_has_the_registrys_name(code: int) -> None:
    registered = registry()[code]
    expected = ERRATUM.get(code)
    if expected is None:
        word = max((word for word in WORDS if registered.startswith(word)), key=len)
        expected = WORDS[word] + ("-http" if registered.endswith("boot from http") else "")
    assert ARCH_NAMES[code] == expected


def test_no_other_number_has_a_name() -> None:
    assert ARCH_NAMES.keys() == registry().keys()


def test_unknown_numbers_share_one_name_and_known_ones_win() -> None:
    assert arch_name((42,)) == arch_name(()) == "other"
    assert arch_name((65535, 11, 7)) == "uefi-arm64"


def test_a_loader_is_made_for_the_processor_however_it_is_fetched() -> None:
    assert processor("uefi-x64-http") == processor("uefi-x64") == "uefi-x64"
    assert machine(ClientClass.HTTP, 19).processor == "uefi-arm64"
