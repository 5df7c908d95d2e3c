# SPDX-License-Identifier: Apache-2.0
"""Boot clients by the rules of their sources: what they ask, which answers they take, what they fetch in the end.

Each `boot` plays one machine against a Network: DISCOVER, the choice between offers, the lease, port 4011, the boot menu. It
returns a Boot, or None where the machine goes on with its next boot device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.protocol.pxe.network import Wire

from dpd.errors import MalformedMessage
from dpd.protocol.dhcp.message import BOOT_REPLY, BROADCAST_FLAG, UNSPECIFIED, Message, decode, encode
from dpd.protocol.dhcp.options import (
    BootItem,
    DiscoveryControl,
    Option,
    PxeOptions,
    decode_pxe_options,
    encode_pxe_options,
    pack_address,
)
from dpd.protocol.pxe.client import MAX_OFFER_BYTES, PxeClient

EFI_ABORTED = None  # the boot manager goes on with the next device


@dataclass(frozen=True)
class Boot:
    """What a machine fetches and from whom; `packets` are those that the firmware keeps for its loader: the lease server's
    ACK, the proxy's answer, the answer to a menu's choice."""

    server: str
    file: str
    packets: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Firmware:
    """EDK2 (PxeBcDhcp4.c, PxeBcBoot.c) and PXE 2.1 ROMs. `word` is what it wants option 60 to start with; `key` the line of a
    boot menu that is chosen after F8."""

    client: PxeClient
    word: bytes = b"PXEClient"
    vendor_class: bytes = b""  # in place of the client's own
    key: int | None = None
    merges: bool = True  # old Dells and some HPs take one offer alone

    def boot(self, network: Wire) -> Boot | None:
        offers = [found for payload in network.discover(self._discover()) if (found := self._read(payload))]
        leases = [each for each in offers if each.yiaddr != UNSPECIFIED]
        proxies = [each for each in offers if each.yiaddr == UNSPECIFIED] if self.merges else []
        chosen = self._select(leases, proxies)
        ack = network.lease(self._lease_request(chosen))
        boot_offer = ack
        if self._kind(chosen) == "plain" and proxies:
            boot_offer = self._first(proxies, "pxe10") or proxies[0]
        if self._kind(boot_offer) == "binl":
            visited = self._visit(network, ack, boot_offer)
            if visited is None:
                return EFI_ABORTED
            boot_offer = visited
        return self._take(network, ack, boot_offer)

    def _take(self, network: Wire, ack: Message, offer: Message) -> Boot | None:
        packets = (ack,) if offer is ack else (ack, offer)
        if self._kind(offer) != "pxe10" or _file_is_given(offer):
            return _boot(offer, packets) if _file(offer) else EFI_ABORTED
        item = self._choose(_vendor(offer))
        if item == 0:  # EFI_PXE_BASE_CODE_BOOT_TYPE_BOOTSTRAP: local boot
            return EFI_ABORTED
        reply = self._discover_server(network, ack, _vendor(offer), item)
        return None if reply is None or not _file(reply) else _boot(reply, (*packets, reply))

    def _choose(self, vendor: PxeOptions) -> int:
        """PxeBcSelectBootPrompt and PxeBcSelectBootMenu. Without a menu the type stays 0."""
        if not vendor.menu:
            return 0
        shows_menu = vendor.prompt is not None and (vendor.prompt.seconds == 255 or self.key is not None)
        if vendor.prompt is not None and vendor.prompt.seconds == 0:
            shows_menu = False
        return vendor.menu[self.key or 0 if shows_menu else 0].server_type

    def _discover_server(self, network: Wire, ack: Message, vendor: PxeOptions, item: int) -> Message | None:
        """PxeBcDhcp4Discover: by unicast where tag 8 has the type, else by broadcast to port 67."""
        vendor_options = encode_pxe_options(PxeOptions(item=BootItem(item, 0)))
        asked = self._request(100, ack.yiaddr, ((int(Option.VENDOR), vendor_options),))
        listed = next((each.addresses for each in vendor.boot_servers if each.server_type == item), None)
        if vendor.boot_servers and listed is None:
            return None
        if listed is None:
            assert not (vendor.discovery_control or 0) & DiscoveryControl.NO_BROADCAST
            answers = network.discover_by_item(asked)
        else:
            answers = [answer for server in listed for answer in network.visit(server, asked)]
        found = [answer for payload in answers if (answer := self._read(payload, 100))]
        must_be_listed = listed is not None and (vendor.discovery_control or 0) & DiscoveryControl.LISTED_SERVERS_ONLY
        return next((each for each in found if not must_be_listed or each.siaddr in (listed or ())), None)

    def _visit(self, network: Wire, ack: Message, offer: Message) -> Message | None:
        """PxeBcRetryBinlOffer: to siaddr, else to option 54."""
        server = offer.siaddr if offer.siaddr != UNSPECIFIED else offer.address(Option.SERVER_ID)
        assert server is not None
        answers = [
            each
            for payload in network.visit(server, self._request(99, ack.yiaddr))
            if (each := self._read(payload, 99))
        ]
        return next((each for each in answers if self._kind(each) == "pxe10" or _file(each)), None)

    def _discover(self) -> bytes:
        return self._said(self.client.discover(7))

    def _request(self, xid: int, address: str, more: tuple[tuple[int, bytes], ...] = ()) -> bytes:
        message = decode(self._said(self.client.boot_request(xid, address)))
        return encode(replace(message, options=message.options + more))

    def _lease_request(self, offer: Message) -> bytes:
        return lease_request(self._said(self.client.boot_request(7, UNSPECIFIED)), offer)

    def _said(self, payload: bytes) -> bytes:
        if not self.vendor_class:
            return payload
        message = decode(payload)
        changed = dict(message.options) | {int(Option.VENDOR_CLASS): self.vendor_class}
        return encode(replace(message, options=tuple(changed.items())))

    def _read(self, payload: bytes, xid: int = 7) -> Message | None:
        try:
            message = decode(payload)
        except MalformedMessage:
            return None
        fits = message.op == BOOT_REPLY and message.xid == xid and message.option(Option.SERVER_ID) is not None
        return message if fits and len(payload) <= MAX_OFFER_BYTES else None

    def _select(self, leases: list[Message], proxies: list[Message]) -> Message:
        """PxeBcSelectDhcp4Offer: a lease that is PXE itself, a plain one beside a PXE10 proxy, a BINL one, any other."""
        plain = self._first(leases, "plain") if self._first(proxies, "pxe10") else None
        return self._first(leases, "pxe10") or plain or self._first(leases, "binl") or leases[0]

    def _first(self, messages: list[Message], kind: str) -> Message | None:
        return next((each for each in messages if self._kind(each) == kind), None)

    def _kind(self, message: Message) -> str:
        """PxeBcParseDhcp4Packet: any of tags 6 to 10 makes it PXE10, PXEClient alone BINL."""
        if not (message.option(Option.VENDOR_CLASS) or b"").startswith(self.word):
            return "plain"
        vendor = _vendor(message)
        is_pxe10 = (
            vendor.discovery_control is not None or vendor.boot_servers or vendor.menu or vendor.prompt is not None
        )
        return "pxe10" if is_pxe10 else "binl"


def lease_request(request: bytes, offer: Message) -> bytes:
    """A REQUEST made one for the lease that was offered."""
    message, server = decode(request), offer.option(Option.SERVER_ID)
    assert server is not None
    chosen = ((int(Option.SERVER_ID), server), (int(Option.REQUESTED_ADDRESS), pack_address(offer.yiaddr)))
    return encode(replace(message, flags=BROADCAST_FLAG, options=message.options + chosen))


def _vendor(message: Message) -> PxeOptions:
    return decode_pxe_options(message.option(Option.VENDOR) or b"")


def _file_is_given(message: Message) -> bool:
    return bool((_vendor(message).discovery_control or 0) & DiscoveryControl.FILE_IS_GIVEN) and bool(_file(message))


def _file(message: Message) -> str:
    """Option 67 wins over the header."""
    return (message.option(Option.BOOT_FILE) or message.file).rstrip(b"\0").decode()


def _boot(message: Message, packets: tuple[Message, ...]) -> Boot:
    """PxeBcDhcp4BootInfo: the first of tag 8 with control bit 8, else siaddr, else option 54."""
    vendor = _vendor(message)
    if (vendor.discovery_control or 0) & DiscoveryControl.FILE_IS_GIVEN and vendor.boot_servers:
        return Boot(vendor.boot_servers[0].addresses[0], _file(message), packets)
    server = message.siaddr if message.siaddr != UNSPECIFIED else message.address(Option.SERVER_ID)
    return Boot(server or "", _file(message), packets)


@dataclass(frozen=True)
class Ipxe:
    """iPXE (net/udp/dhcp.c, usr/autoboot.c, usr/pxemenu.c)."""

    client: PxeClient
    key: int | None = None

    def boot(self, network: Wire) -> Boot | None:
        offers = [decode(payload) for payload in network.discover(self.client.discover(7))]
        lease = next(each for each in offers if each.yiaddr != UNSPECIFIED)
        proxy = next((each for each in offers if each.option(Option.VENDOR_CLASS) == b"PXEClient"), None)
        ack = network.lease(lease_request(self.client.boot_request(7, UNSPECIFIED), lease))
        if proxy is not None and not self._has_pxe_options(proxy):
            server = proxy.address(Option.SERVER_ID) or proxy.siaddr
            answers = network.visit(server, self.client.boot_request(7, ack.yiaddr), 68)
            proxy = decode(answers[0]) if answers else None
        told = proxy or ack
        vendor = _vendor(told)
        if vendor.menu and not _file_is_given(told):
            return self._menu(network, ack, told, vendor)
        return Boot(told.siaddr, _file(told), (ack, told)) if _file(told) else None

    def _has_pxe_options(self, message: Message) -> bool:
        return (message.siaddr != UNSPECIFIED and bool(_file(message))) or bool(_vendor(message).menu)

    def _menu(self, network: Wire, ack: Message, told: Message, vendor: PxeOptions) -> Boot | None:
        waits = vendor.prompt is None or vendor.prompt.seconds > 0
        item = vendor.menu[self.key if waits and self.key is not None else 0].server_type
        if item == 0:
            return None
        chosen = encode_pxe_options(PxeOptions(item=BootItem(item, 0)))
        request = decode(self.client.boot_request(0, ack.yiaddr))
        asked = encode(replace(request, options=(*request.options, (int(Option.VENDOR), chosen))))
        for server in vendor.boot_servers[0].addresses:
            for payload in network.visit(server, asked, 68):
                reply = decode(payload)
                if _vendor(reply).item == BootItem(item, 0):
                    return Boot(reply.siaddr, _file(reply), (ack, told, reply))
        return None


@dataclass(frozen=True)
class HttpFirmware:
    """EDK2 HttpBootDxe: the offer must say HTTPClient and have a URL with an address in it; no second step."""

    client: PxeClient

    def boot(self, network: Wire) -> Boot | None:
        for payload in network.discover(self.client.discover(7)):
            offer = decode(payload)
            url = (offer.option(Option.BOOT_FILE) or b"").decode()
            if (offer.option(Option.VENDOR_CLASS) or b"")[:10] == b"HTTPClient" and url.startswith("http://"):
                host = url.removeprefix("http://").partition("/")[0].partition(":")[0]
                return Boot(host, url, (offer,))
        return None


@dataclass(frozen=True)
class HeaderReader:
    """U-Boot with SERVERIP_FROM_PROXYDHCP, and firmware that takes BOOTP's fields: siaddr and file of an offer. With
    `refuses` an offer whose option 60 starts with that is passed over."""

    client: PxeClient
    vendor_class: bytes
    refuses: bytes = b""

    def boot(self, network: Wire) -> Boot | None:
        asked = decode(self.client.discover(7))
        changed = dict(asked.options) | {int(Option.VENDOR_CLASS): self.vendor_class}
        for payload in network.discover(encode(replace(asked, options=tuple(changed.items())))):
            offer = decode(payload)
            if self.refuses and (offer.option(Option.VENDOR_CLASS) or b"").startswith(self.refuses):
                continue
            if offer.siaddr != UNSPECIFIED and offer.file:
                return Boot(offer.siaddr, offer.file.decode(), (offer,))
        return None


@dataclass(frozen=True)
class RaspberryPi:
    """The boot ROM: an offer counts whose menu has its words; it knows the names of its files."""

    client: PxeClient

    def boot(self, network: Wire) -> Boot | None:
        for payload in network.discover(self.client.discover(7)):
            offer = decode(payload)
            if any(item.text.startswith("Raspberry Pi Boot") for item in _vendor(offer).menu):
                return Boot(offer.siaddr, "bootcode.bin", (offer,))
        return None


def shim_second_stage(boot: Boot, name: str = "grubx64.efi") -> tuple[str, str]:
    """shim (netboot.c): the lease's header unless its `file` is empty, then the proxy's, then the PXE reply's; siaddr and the
    folder of `file`, header fields alone."""
    packet = next(each for each in boot.packets if each.file)
    folder = packet.file.decode().replace("\\", "/").rpartition("/")[0]
    return packet.siaddr, f"{folder}/{name}" if folder else name


def bootmgr_bcd(boot: Boot) -> str:
    """Microsoft's boot manager: the BCD named by option 252 of a packet that the firmware kept, ended by a zero."""
    for packet in reversed(boot.packets):
        value = packet.option(Option.BCD)
        if value is not None:
            assert value.endswith(b"\0")
            return value[:-1].decode("ascii")
    return "\\Boot\\BCD"
