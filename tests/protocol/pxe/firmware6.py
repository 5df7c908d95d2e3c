# SPDX-License-Identifier: Apache-2.0
"""EDK2's rules for taking an ADVERTISE or REPLY as an offer to boot (PxeBcDhcp6.c, HttpBootDhcp6.c, Dhcp6Io.c)."""

from __future__ import annotations

from dataclasses import dataclass

from dpd.protocol.dhcp6.message import MessageType, Packet, decode
from dpd.protocol.dhcp6.options import Option, decode_identity_association

MAX_PACKET_BYTES = 1472
ENTERPRISE = (343).to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class BootOffer:
    """What firmware makes of an answer; `is_proxy`: it has no address, so that it goes with another server's lease."""

    type: int
    server_id: bytes
    url: str
    is_proxy: bool


def read_pxe_offer(data: bytes, question: Packet) -> BootOffer | None:
    """As UEFI PXE reads it: 13 bytes of vendor class, the word at the seventh, a URL of TFTP."""
    offer = _read(data, question, b"PXEClient", 13)
    return offer if offer is not None and offer.url.startswith("tftp://[") else None


def read_http_offer(data: bytes, question: Packet) -> BootOffer | None:
    """As UEFI HTTP boot reads it: 16 bytes of vendor class. Early versions take the URL up to the packet's end."""
    offer = _read(data, question, b"HTTPClient", 16)
    return offer if offer is not None and data.endswith(offer.url.encode()) else None


def _read(data: bytes, question: Packet, word: bytes, least: int) -> BootOffer | None:
    message = decode(data).message
    server_id = message.option(Option.SERVER_ID)
    vendor = message.option(Option.VENDOR_CLASS) or b""
    url = message.option(Option.BOOT_FILE_URL)
    if len(data) > MAX_PACKET_BYTES or message.transaction_id != question.message.transaction_id:
        return None
    if server_id is None or message.option(Option.CLIENT_ID) != question.message.option(Option.CLIENT_ID):
        return None
    if message.type not in (MessageType.ADVERTISE, MessageType.REPLY) or message.option(Option.STATUS_CODE):
        return None
    if len(vendor) < least or not vendor.startswith(ENTERPRISE) or vendor[6 : 6 + len(word)] != word:
        return None
    parameters = message.option(Option.BOOT_FILE_PARAMETERS)
    if url is None or (parameters is not None and not parameters[2:].isdigit()):
        return None
    association = message.option(Option.IA_NA)
    is_proxy = association is None or bool(decode_identity_association(association).status)
    return BootOffer(message.type, server_id, url.decode("ascii"), is_proxy)
