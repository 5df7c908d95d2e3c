# SPDX-License-Identifier: Apache-2.0
"""Who asks over DHCPv6: its hardware address, GUID, class and architecture.

DHCPv6 has no field for a hardware address. So it comes from whoever knows it, the most trustworthy first: the relay next
to the client (RFC 6939), the client's link-local address where that is made of it (RFC 4291 appendix A, as EDK2 and iPXE
do), its DUID, and at last what an earlier message of the same DUID told.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from dpd.protocol.dhcp6.message import Message, Packet, Relay
from dpd.protocol.dhcp6.options import (
    ETHERNET,
    MAC_BYTES,
    Option,
    decode_codes,
    decode_duid,
    decode_link_layer,
    decode_user_classes,
    decode_vendor_class,
)
from dpd.protocol.pxe.rules import ClientClass, Machine

INTEL = 343  # the enterprise number in the vendor class of PXE and UEFI HTTP boot (UEFI specification 24.3.1)
_LINK_LOCAL = bytes.fromhex("fe80000000000000")
_NOBODY = (bytes(16), b"\xff" * 16)


@dataclass(frozen=True, slots=True)
class Identity:
    """A machine, and the DUID by which its later messages are known."""

    machine: Machine
    duid: bytes


def vendor_word(message: Message) -> tuple[str, str]:
    """The first word of network boot in the vendor class, and all of that text; "" and "" where there is none."""
    for code, value in message.options:
        if code != Option.VENDOR_CLASS:
            continue
        for told in decode_vendor_class(value).classes:
            for word in (ClientClass.PXE, ClientClass.HTTP):
                if told.startswith(word.encode()):
                    return word.value, told.decode("latin-1")
    return "", ""


def identify6(packet: Packet, source: str, known_mac: str = "") -> Identity:
    """The machine behind a network-boot message. `known_mac` is what an earlier message of this DUID told. Raises
    MalformedMessage for options that cannot be read."""
    message = packet.message
    word, told = vendor_word(message)
    duid = message.option(Option.CLIENT_ID) or b""
    is_ipxe = b"iPXE" in decode_user_classes(message.option(Option.USER_CLASS) or b"")
    machine = Machine(
        mac=_mac(packet, source, duid) or known_mac,
        guid=_guid(duid, in_network_order=is_ipxe),
        client_class=ClientClass.IPXE if is_ipxe else ClientClass(word or ClientClass.PXE),
        client_arch=_client_arch(message, told),
        vendor_class=word,
    )
    return Identity(machine, duid)


def _mac(packet: Packet, source: str, duid: bytes) -> str:
    nearest = packet.relays[-1] if packet.relays else None
    if nearest is not None and (told := _mac_by_relay(nearest)):
        return told
    return mac_of_address(nearest.peer_address if nearest else source) or (decode_duid(duid).mac if duid else "")


def _mac_by_relay(relay: Relay) -> str:
    value = relay.option(Option.CLIENT_LINK_LAYER)
    if value is None:
        return ""
    told = decode_link_layer(value)
    return told.address.hex(":") if told.hardware_type == ETHERNET and len(told.address) == MAC_BYTES else ""


def mac_of_address(address: str) -> str:
    """The MAC out of which a link-local address was made, "" for addresses that were made otherwise."""
    octets = ipaddress.IPv6Address(address.partition("%")[0]).packed
    if not octets.startswith(_LINK_LOCAL) or octets[11:13] != b"\xff\xfe":
        return ""
    return (bytes((octets[8] ^ 2,)) + octets[9:11] + octets[13:]).hex(":")


def _guid(duid: bytes, *, in_network_order: bool) -> str:
    """The GUID of a DUID-UUID as text, in the one form that DHCPv4's option 97 leads to, too.

    RFC 6355 has it in network order, and so has iPXE. EDK2 puts in what SMBIOS has, the first three fields little-endian.
    """
    octets = decode_duid(duid).uuid if duid else b""
    if not octets or octets in _NOBODY:
        return ""
    if not in_network_order:
        octets = octets[3::-1] + octets[5:3:-1] + octets[7:5:-1] + octets[8:]
    text = octets.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _client_arch(message: Message, told: str) -> tuple[int, ...]:
    """Option 61, else the number inside the vendor class ("PXEClient:Arch:00007:UNDI:003000")."""
    value = message.option(Option.CLIENT_ARCH)
    if value is not None:
        return decode_codes(value)
    words = told.split(":")
    if len(words) > 2 and words[1] == "Arch" and words[2].isdecimal() and words[2].isascii() and len(words[2]) <= 5:
        return (int(words[2]),)
    return ()
