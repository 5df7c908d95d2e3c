# SPDX-License-Identifier: Apache-2.0
"""Option 93: IANA's registry "Processor Architecture Types" as the closed set of names that counters and logs use."""

from __future__ import annotations

from functools import lru_cache

# RFC 4578 as printed swapped 7 and 9 (erratum of 2016); firmware of that time sends 9 for x64, so both have one name.
# For 17, EFI byte code by HTTP, there was no such firmware.
ARCH_NAMES = {
    0: "bios",
    1: "nec-pc98",
    2: "itanium",
    3: "alpha",
    4: "arc-x86",
    5: "lean-client",
    6: "uefi-x86",
    7: "uefi-x64",
    8: "xscale",
    9: "uefi-x64",
    10: "uefi-arm32",
    11: "uefi-arm64",
    12: "powerpc-openfirmware",
    13: "powerpc-epapr",
    14: "powerpc-opal",
    15: "uefi-x86-http",
    16: "uefi-x64-http",
    17: "uefi-ebc-http",
    18: "uefi-arm32-http",
    19: "uefi-arm64-http",
    20: "bios-http",
    21: "uboot-arm32",
    22: "uboot-arm64",
    23: "uboot-arm32-http",
    24: "uboot-arm64-http",
    25: "uefi-riscv32",
    26: "uefi-riscv32-http",
    27: "uefi-riscv64",
    28: "uefi-riscv64-http",
    29: "uefi-riscv128",
    30: "uefi-riscv128-http",
    31: "s390-basic",
    32: "s390-extended",
    33: "mips32",
    34: "mips64",
    35: "sunway32",
    36: "sunway64",
    37: "uefi-loongarch32",
    38: "uefi-loongarch32-http",
    39: "uefi-loongarch64",
    40: "uefi-loongarch64-http",
    41: "arm-rpiboot",
}
OTHER = "other"  # a number that the registry does not have
HTTP_SUFFIX = "-http"


@lru_cache(256)
def arch_name(codes: tuple[int, ...]) -> str:
    """The first known one of a machine's architectures."""
    return next((ARCH_NAMES[code] for code in codes if code in ARCH_NAMES), OTHER)


@lru_cache(256)
def processor(name: str) -> str:
    """The architecture without the way it is booted: what a loader must be made for."""
    return name.removesuffix(HTTP_SUFFIX)
