# SPDX-License-Identifier: Apache-2.0
"""A network-boot client as bytes: what EDK2 sends, and its rules for taking an answer (PxeBcDhcp4.c, HttpBootDhcp4.c).

For the demo, the operator's self-test and the tests. With `relay` set the client asks as a relay would: the answer is
unicast to that address and to the port from which it asked (RFC 8357), so no privilege and no port 68 is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from dpd.protocol.dhcp.message import BOOT_REPLY, BOOT_REQUEST, BROADCAST_FLAG, Message, MessageType, decode, encode
from dpd.protocol.dhcp.options import (
    DiscoveryControl,
    Option,
    PxeOptions,
    RelayTag,
    decode_pxe_options,
    encode_client_arch,
    encode_machine_id,
)
from dpd.protocol.pxe.rules import ClientClass

MAX_OFFER_BYTES = 1472  # EDK2 drops longer ones
MAX_MESSAGE_SIZE = (1472).to_bytes(2, "big")
ASKED = bytes((1, 3, 6, 12, 15, 43, 54, 60, 66, 67, 97))
UNDI = b"\x01\x03\x00"


@dataclass(frozen=True, slots=True)
class BootAnswer:
    """What an OFFER or ACK gives: the loader (name or URL) and the server to fetch it from.

    `visit_server`: the file is not final, the client is to ask the server on port 4011.
    """

    message_type: MessageType
    server: str
    loader: str
    visit_server: bool


@dataclass(frozen=True, slots=True)
class PxeClient:
    """One machine. `client_class` IPXE asks as iPXE does, with option 77."""

    mac: str
    client_arch: int = 7
    client_class: ClientClass = ClientClass.PXE
    guid: str = ""
    relay: str = ""

    @property
    def vendor_class(self) -> str:
        """The word that option 60 starts with, in both directions."""
        return "HTTPClient" if self.client_class == ClientClass.HTTP else "PXEClient"

    def discover(self, xid: int, secs: int = 0) -> bytes:
        """A DISCOVER for port 67."""
        relay = ((int(Option.RELAY_AGENT), bytes((RelayTag.SOURCE_PORT, 0))),) if self.relay else ()
        return encode(
            Message(
                op=BOOT_REQUEST,
                xid=xid,
                chaddr=bytes.fromhex(self.mac.replace(":", "")),
                hops=1 if self.relay else 0,
                secs=secs,
                flags=BROADCAST_FLAG,
                giaddr=self.relay or "0.0.0.0",
                options=self._options(MessageType.DISCOVER) + relay,
            )
        )

    def boot_request(self, xid: int, address: str) -> bytes:
        """A REQUEST for port 4011, once the client has its lease on `address`."""
        return encode(
            Message(
                op=BOOT_REQUEST,
                xid=xid,
                chaddr=bytes.fromhex(self.mac.replace(":", "")),
                ciaddr=address,
                options=self._options(MessageType.REQUEST),
            )
        )

    def _options(self, kind: MessageType) -> tuple[tuple[int, bytes], ...]:
        word = f"{self.vendor_class}:Arch:{self.client_arch:05d}:UNDI:003000"
        options = [
            (Option.MESSAGE_TYPE, bytes((kind,))),
            (Option.MAX_MESSAGE_SIZE, MAX_MESSAGE_SIZE),
            (Option.PARAMETER_LIST, ASKED),
            (Option.CLIENT_INTERFACE, UNDI),
            (Option.CLIENT_ARCH, encode_client_arch((self.client_arch,))),
            (Option.VENDOR_CLASS, word.encode()),
        ]
        if self.guid:
            options.append((Option.CLIENT_MACHINE_ID, encode_machine_id(self.guid)))
        if self.client_class == ClientClass.IPXE:
            options.append((Option.USER_CLASS, b"iPXE"))
        return tuple((int(code), value) for code, value in options)

    def read(self, data: bytes, xid: int) -> BootAnswer | None:
        """The answer to our message `xid`, None where EDK2 would pass it over. Raises MalformedMessage."""
        message = decode(data)
        server_id = message.address(Option.SERVER_ID)
        word = message.option(Option.VENDOR_CLASS) or b""
        if len(data) > MAX_OFFER_BYTES or server_id is None or not word.startswith(self.vendor_class.encode()):
            return None
        if message.op != BOOT_REPLY or message.xid != xid or message.chaddr.hex(":") != self.mac.lower():
            return None
        if message.message_type not in (MessageType.OFFER, MessageType.ACK):
            return None
        loader = (message.option(Option.BOOT_FILE) or message.file).rstrip(b"\0").decode("latin-1")
        pxe = decode_pxe_options(message.option(Option.VENDOR) or b"")
        is_final = self.client_class == ClientClass.HTTP or message.message_type == MessageType.ACK
        return BootAnswer(
            message_type=MessageType(message.message_type),
            server=_boot_server(message, pxe, server_id),
            loader=loader,
            visit_server=not loader or not (is_final or _file_is_given(pxe)),
        )


def _file_is_given(pxe: PxeOptions) -> bool:
    return bool((pxe.discovery_control or 0) & DiscoveryControl.FILE_IS_GIVEN)


def _boot_server(message: Message, pxe: PxeOptions, server_id: str) -> str:
    """The first of tag 8 when control bit 8 stands, else siaddr, else option 54."""
    if _file_is_given(pxe) and pxe.boot_servers and pxe.boot_servers[0].addresses:
        return pxe.boot_servers[0].addresses[0]
    return message.siaddr if message.siaddr != "0.0.0.0" else server_id
