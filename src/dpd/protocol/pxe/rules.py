# SPDX-License-Identifier: Apache-2.0
"""What kind of machine asks, and which rule gives it its loader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dpd.protocol.dhcp.message import Message
from dpd.protocol.dhcp.options import Option, decode_client_arch, decode_machine_id, decode_user_classes

# Option 93 (IANA "Processor Architecture Types") as the closed set of names that counters and logs use. RFC 4578 as
# printed swapped 7 and 9 (erratum of 2016); firmware of that time sends 9 for x64, so both have one name.
ARCH_NAMES = {
    0: "bios",
    6: "uefi-x86",
    7: "uefi-x64",
    9: "uefi-x64",
    10: "uefi-arm32",
    11: "uefi-arm64",
    15: "uefi-x86-http",
    16: "uefi-x64-http",
    18: "uefi-arm32-http",
    19: "uefi-arm64-http",
    20: "bios-http",
    25: "uefi-riscv32",
    27: "uefi-riscv64",
    39: "uefi-loongarch64",
}
INFINIBAND_GUID_BYTES = 8


class ClientClass(StrEnum):
    """What the client speaks; the values are the words of the settings."""

    PXE = "PXEClient"
    HTTP = "HTTPClient"
    IPXE = "iPXE"


@dataclass(frozen=True, slots=True)
class Rule:
    """The loader for one class and some architectures; an empty `client_arch` fits every one."""

    name: str
    client_class: ClientClass
    loader: str
    client_arch: tuple[int, ...] = ()

    def fits(self, machine: Machine) -> bool:
        """Whether the rule speaks of this machine."""
        if self.client_class != machine.client_class:
            return False
        return not self.client_arch or any(code in self.client_arch for code in machine.client_arch)


@dataclass(frozen=True, slots=True)
class Machine:
    """Who asks. `guid` is "" where the firmware has none of its own; `vendor_class` is the first word of option 60."""

    mac: str
    guid: str
    client_class: ClientClass
    client_arch: tuple[int, ...]
    vendor_class: str

    @property
    def arch_name(self) -> str:
        """The first known architecture by name, out of a closed set."""
        return next((ARCH_NAMES[code] for code in self.client_arch if code in ARCH_NAMES), "other")


def vendor_class(message: Message) -> str:
    """The first word of option 60 when it is one of network boot, else ""."""
    word = (message.option(Option.VENDOR_CLASS) or b"")[:10]
    if word[:9] == b"PXEClient":
        return ClientClass.PXE.value
    return ClientClass.HTTP.value if word == b"HTTPClient" else ""


def identify(message: Message) -> Machine:
    """The machine behind a network-boot message. Raises MalformedMessage for a broken option 93."""
    word = vendor_class(message)
    return Machine(
        mac=_hardware_address(message).hex(":"),
        guid=decode_machine_id(message.option(Option.CLIENT_MACHINE_ID) or b""),
        client_class=ClientClass.IPXE if is_ipxe(message) else ClientClass(word),
        client_arch=_client_arch(message),
        vendor_class=word,
    )


def is_ipxe(message: Message) -> bool:
    """iPXE says so in option 77 (raw text or RFC 3004 form) or by its own option 175. Never judged by architecture:
    giving iPXE the loader of its firmware once more would loop."""
    classes = decode_user_classes(message.option(Option.USER_CLASS) or b"")
    return b"iPXE" in classes or message.option(Option.IPXE) is not None


def _hardware_address(message: Message) -> bytes:
    """chaddr; over InfiniBand it is empty (RFC 4390 section 2.1) and the port GUID ends option 61."""
    return message.chaddr or (message.option(Option.CLIENT_ID) or b"")[-INFINIBAND_GUID_BYTES:]


def _client_arch(message: Message) -> tuple[int, ...]:
    """Option 93, else the number inside option 60 ("PXEClient:Arch:00007:UNDI:003016")."""
    value = message.option(Option.CLIENT_ARCH)
    if value is not None:
        return decode_client_arch(value)
    words = (message.option(Option.VENDOR_CLASS) or b"").split(b":")
    if len(words) > 2 and words[1] == b"Arch" and words[2].isdigit() and len(words[2]) <= 5:
        return (int(words[2]),)
    return ()


def find_rule(rules: Sequence[Rule], machine: Machine) -> Rule | None:
    """The first rule that fits."""
    return next((rule for rule in rules if rule.fits(machine)), None)
