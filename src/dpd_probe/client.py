# SPDX-License-Identifier: Apache-2.0
"""Who the probe pretends to be, and whom it asks.

This file is used with scapy (GPL-2.0-only), in a process of its own. dpd itself never imports it, nor scapy.
"""

from __future__ import annotations

from dataclasses import dataclass

# Option 93, the architectures that firmware and loaders of today tell (IANA "Processor Architecture Types").
ARCHITECTURES = {
    "bios": 0,
    "uefi-x86": 6,
    "uefi-x64": 7,
    "uefi-arm32": 10,
    "uefi-arm64": 11,
    "uefi-x86-http": 15,
    "uefi-x64-http": 16,
    "uefi-arm32-http": 18,
    "uefi-arm64-http": 19,
    "bios-http": 20,
    "uefi-riscv64": 27,
    "uefi-riscv64-http": 28,
    "uefi-loongarch64": 39,
    "uefi-loongarch64-http": 40,
}


@dataclass(frozen=True, slots=True)
class Client:
    """One machine. `is_ipxe` asks as iPXE does, behind the firmware."""

    mac: str
    arch: str
    guid: str = ""
    is_ipxe: bool = False
    secs: int = 0

    @property
    def code(self) -> int:
        return ARCHITECTURES[self.arch]

    @property
    def is_http(self) -> bool:
        return self.arch.endswith("-http")

    @property
    def vendor_class(self) -> str:
        word = "HTTPClient" if self.is_http else "PXEClient"
        return f"{word}:Arch:{self.code:05d}:UNDI:003016"

    @property
    def hardware(self) -> bytes:
        return bytes.fromhex(self.mac.replace(":", ""))


@dataclass(frozen=True, slots=True)
class Target:
    """The distribution point. `relay` is an address of this host from which the probe asks as a relay would; without one it
    broadcasts by `interface`, which needs CAP_NET_RAW."""

    server: str = ""
    port: int = 67
    boot_port: int = 4011
    tftp_port: int = 69
    relay: str = ""
    interface: str = ""
    timeout_s: float = 4.0


@dataclass(frozen=True, slots=True)
class Told:
    """What an answer says. `is_final`: no further question is needed; `is_local`: go on with the next boot device."""

    server: str
    loader: str
    is_final: bool
    is_local: bool = False
