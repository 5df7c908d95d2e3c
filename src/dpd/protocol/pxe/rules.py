# SPDX-License-Identifier: Apache-2.0
"""What kind of machine asks, and which rule gives it its loader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from dpd.protocol.dhcp.message import Message
from dpd.protocol.dhcp.options import Option, decode_client_arch, decode_machine_id, decode_user_classes
from dpd.protocol.pxe.architectures import arch_name, processor

INFINIBAND_GUID_BYTES = 8
U_BOOT = b"U-Boot"
# What option 60 of a network-boot client starts with. Huawei's servers say HW-Client where the specification has
# PXEClient, U-Boot its own name and processor ("U-Boot.armv8").
VENDOR_WORDS = (b"PXEClient", b"HTTPClient", b"HW-Client", U_BOOT)
# Members under names of their own: to fetch one from its enumeration takes 71 ns, a name of the module 7 (Python 3.11 asks
# the class's own class first), and to make an answer did so dozens of times. With what a room has in common kept: 6 us of 50.
_VENDOR_CLASS, _USER_CLASS, _IPXE = int(Option.VENDOR_CLASS), int(Option.USER_CLASS), int(Option.IPXE)
_CLIENT_ARCH, _CLIENT_MACHINE_ID = int(Option.CLIENT_ARCH), int(Option.CLIENT_MACHINE_ID)


class ClientClass(StrEnum):
    """What the client speaks; the values are the words of the settings."""

    PXE = "PXEClient"
    HTTP = "HTTPClient"
    IPXE = "iPXE"


@dataclass(frozen=True, slots=True)
class Rule:
    """The loader for one class and some architectures; an empty `client_arch` fits every one. `flow` is the form of the answer
    where it is not to be the one of the client's profile."""

    name: str
    client_class: ClientClass
    loader: str
    client_arch: tuple[int, ...] = ()
    flow: str = ""

    def fits(self, machine: Machine) -> bool:
        """Whether the rule speaks of this machine."""
        if self.client_class != machine.client_class:
            return False
        return not self.client_arch or not _disjoint(self.client_arch, machine.client_arch)


@dataclass(slots=True)
class Machine:
    """Who asks. `guid` is "" where the firmware has none of its own; `vendor_class` is the first word of option 60, one of
    VENDOR_WORDS."""

    mac: str
    guid: str
    client_class: ClientClass
    client_arch: tuple[int, ...]
    vendor_class: str

    @property
    def arch_name(self) -> str:
        """The first known architecture by name, out of a closed set."""
        return arch_name(self.client_arch)

    @property
    def processor(self) -> str:
        """What a loader for this machine must be made for: `arch_name` without "-http"."""
        return processor(self.arch_name)


def vendor_class(message: Message) -> str:
    """The first word of option 60 when it is one of network boot, else ""."""
    return _vendor_word(message.option(_VENDOR_CLASS) or b"", message.option(_CLIENT_ARCH) is not None)


@lru_cache(1024)  # of rooms full of equal machines each says the same
def _vendor_word(told: bytes, tells_arch: bool) -> str:
    for word in VENDOR_WORDS:
        if told.startswith(word):
            # A U-Boot that only wants an address says the same; one that boots tells its architecture, too.
            return word.decode() if word != U_BOOT or tells_arch else ""
    return ""


def identify(message: Message) -> Machine:
    """The machine behind a network-boot message. Raises MalformedMessage for a broken option 93."""
    option = message.option
    kind = _kind(option(_VENDOR_CLASS), option(_CLIENT_ARCH), option(_USER_CLASS), option(_IPXE) is not None)
    mac = _hardware_address(message).hex(":")
    return Machine(mac, decode_machine_id(option(_CLIENT_MACHINE_ID) or b""), *kind)


@lru_cache(1024)
def _kind(
    told: bytes | None, arch: bytes | None, classes: bytes | None, has_features: bool
) -> tuple[ClientClass, tuple[int, ...], str]:
    """What a room full of machines has in common, by options 60, 93, 77 and whether there is 175."""
    word = _vendor_word(told or b"", arch is not None)
    return _client_class(word, classes, has_features), _client_arch(told or b"", arch), word


def _client_class(word: str, classes: bytes | None, has_features: bool) -> ClientClass:
    if is_ipxe(classes, has_features):
        return ClientClass.IPXE
    return ClientClass.HTTP if word == ClientClass.HTTP else ClientClass.PXE


def is_ipxe(classes: bytes | None, has_features: bool) -> bool:
    """iPXE says so in option 77 (raw text or RFC 3004 form) or by its own option 175. Never judged by architecture:
    giving iPXE the loader of its firmware once more would loop."""
    is_named = classes is not None and b"iPXE" in decode_user_classes(classes)
    return is_named or has_features


def _hardware_address(message: Message) -> bytes:
    """chaddr; over InfiniBand it is empty (RFC 4390 section 2.1) and the port GUID ends option 61."""
    return message.chaddr or (message.option(Option.CLIENT_ID) or b"")[-INFINIBAND_GUID_BYTES:]


def _client_arch(told: bytes, value: bytes | None) -> tuple[int, ...]:
    """Option 93, else the number inside option 60 ("PXEClient:Arch:00007:UNDI:003016")."""
    if value is not None:
        return decode_client_arch(value)
    words = told.split(b":")
    if len(words) > 2 and words[1] == b"Arch" and words[2].isdigit() and len(words[2]) <= 5:
        return (int(words[2]),)
    return ()


@lru_cache(1024)
def _disjoint(codes: tuple[int, ...], others: tuple[int, ...]) -> bool:
    return set(codes).isdisjoint(others)


def find_rule(rules: Sequence[Rule], machine: Machine) -> Rule | None:
    """The first rule that fits."""
    for rule in rules:
        if rule.fits(machine):
            return rule
    return None
