# SPDX-License-Identifier: Apache-2.0
"""What another server's DHCP answer means for our network boot.

A lease alone is as it should be. What stands in the way: a second proxyDHCP, option 60 in a lease server's answer (it says
"I am a boot server too", PXE 2.1 section 2.2.3), and a boot file or boot server that is not ours.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from dpd.protocol.dhcp.message import BOOT_REPLY, Message, MessageType
from dpd.protocol.dhcp.options import Option

UNSPECIFIED = "0.0.0.0"
MAX_SHOWN = 80
BOOT_CLASSES = (b"PXEClient", b"HTTPClient")


class Flag(StrEnum):
    """What an answer carries; a closed set."""

    LEASE = "lease"
    PROXY = "proxy"
    OPTION60 = "option60"
    FILE = "file"
    NEXT_SERVER = "next_server"


@dataclass(frozen=True, slots=True)
class ForeignOffer:
    """One answer to one machine. `loader` is printable text of at most MAX_SHOWN characters."""

    mac: str
    xid: int
    server: str
    flags: tuple[Flag, ...]
    loader: str

    @property
    def is_harmless(self) -> bool:
        return self.flags == (Flag.LEASE,)


def read_foreign_offer(message: Message, source: str, own: Collection[str]) -> ForeignOffer | None:
    """What the OFFER or ACK of another server says; None where it has nothing to do with us or is our own."""
    if message.op != BOOT_REPLY or message.message_type not in (MessageType.OFFER, MessageType.ACK):
        return None
    server = message.address(Option.SERVER_ID) or source
    if server in own or source in own or not message.chaddr:
        return None
    flags = _flags(message, server, own)
    if not flags:
        return None
    return ForeignOffer(message.chaddr.hex(":"), message.xid, server, flags, _shown(_file(message)))


def _flags(message: Message, server: str, own: Collection[str]) -> tuple[Flag, ...]:
    is_boot_class = (message.option(Option.VENDOR_CLASS) or b"").startswith(BOOT_CLASSES)
    if message.yiaddr == UNSPECIFIED:
        return (Flag.PROXY,) if is_boot_class else ()
    if _points_to(message, own):  # as the operator wants it for firmware that puts no two answers together
        return (Flag.LEASE,)
    flags = [Flag.LEASE]
    if is_boot_class:
        flags.append(Flag.OPTION60)
    if _file(message):
        flags.append(Flag.FILE)
    if message.siaddr not in (UNSPECIFIED, server):
        flags.append(Flag.NEXT_SERVER)
    return tuple(flags)


def _points_to(message: Message, own: Collection[str]) -> bool:
    """Whether it names us, as next-server or in a URL."""
    file = _file(message)
    return message.siaddr in own or any(f"//{address}".encode() in file for address in own)


def _file(message: Message) -> bytes:
    return (message.option(Option.BOOT_FILE) or message.file).rstrip(b"\0")


def _shown(file: bytes) -> str:
    return "".join(c if c.isprintable() else "?" for c in file[:MAX_SHOWN].decode("latin-1"))
