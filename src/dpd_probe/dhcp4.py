# SPDX-License-Identifier: Apache-2.0
"""The DHCPv4 half of a boot: DISCOVER, the lease REQUEST that is overheard, REQUEST to port 4011.

This file is used with scapy (GPL-2.0-only), in a process of its own. dpd itself never imports it, nor scapy.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from dpd_probe.client import Client, Target, Told
from dpd_probe.steps import Account, Ending, ProbeError

TRIES = 3  # of each question; firmware asks four times
FILE_IS_GIVEN = 8  # discovery control, PXE 2.1 table 2-1
LOCAL_BOOT = b"\0\0"  # type of the first menu item
UNSPECIFIED = "0.0.0.0"
EVERYONE = "255.255.255.255"
ASKED = (1, 3, 6, 15, 43, 54, 60, 66, 67, 97)

Exchange = Callable[[bytes, int], bytes]  # a question and its xid → the answer


def ask(client: Client, target: Target, account: Account) -> Told:
    """Play the client up to the name of its loader. Raises ProbeError."""
    with closing(_Broadcast(client, target) if not target.relay else _Relayed(target)) as wire:
        account.tell("discover", mac=client.mac, arch=client.arch, relay=target.relay, interface=target.interface)
        offer = _ask(wire.exchange, client, target, account, "offer", "discover", target.relay)
        wire.say(_question(client, "request", secrets.randbits(32), target.relay, lease=(wire.address, wire.address)))
    if client.is_http or offer.is_local:
        return offer
    return _visit_boot_server(client, target, account, offer, wire.address)


def _visit_boot_server(client: Client, target: Target, account: Account, offer: Told, address: str) -> Told:
    server = offer.server or target.server
    with closing(_Unicast((server, target.boot_port), address, target.timeout_s)) as wire:
        account.tell("boot_request", server=server, port=target.boot_port, address=address)
        try:
            return _ask(wire.exchange, client, target, account, "boot_reply", "request", "", address)
        except ProbeError:
            if not offer.is_final:
                raise
            account.tell(
                "no_boot_reply", detail="port 4011 did not answer; the OFFER alone is enough for most firmware"
            )
            return offer


def _ask(
    exchange: Exchange,
    client: Client,
    target: Target,
    account: Account,
    name: str,
    kind: str,
    relay: str,
    address: str = UNSPECIFIED,
) -> Told:
    for attempt in range(TRIES):
        xid = secrets.randbits(32)
        question = _question(
            client, kind, xid, relay, address=address, secs=client.secs + int(attempt * target.timeout_s)
        )
        try:
            answer = exchange(question, xid)
        except TimeoutError:
            account.tell("silence", attempt=attempt + 1, of=TRIES)
            continue
        told = read(answer, client)
        account.tell(name, server=told.server, loader=told.loader, boots_local=told.is_local)
        return told
    where = f"port {target.port}" if kind == "discover" else f"port {target.boot_port}"
    raise ProbeError(Ending.NO_ANSWER, "no_answer", f"nobody answered on {where}: `dpd pxe why {client.mac}` may know")


def _question(
    client: Client,
    kind: str,
    xid: int,
    relay: str,
    *,
    address: str = UNSPECIFIED,
    secs: int = 0,
    lease: tuple[str, str] | None = None,
) -> bytes:
    """The bytes of one question; `lease` is the address and the server of a REQUEST that is not for dpd."""
    options: list[Any] = [("message-type", kind), ("max_dhcp_size", 1472), ("param_req_list", list(ASKED))]
    options += [
        (94, b"\1\3\x10"),
        (93, client.code.to_bytes(2, "big")),
        ("vendor_class_id", client.vendor_class.encode()),
    ]
    if client.guid:
        octets = bytes.fromhex(client.guid.replace("-", ""))
        mixed = (
            octets[3::-1] + octets[5:3:-1] + octets[7:5:-1] + octets[8:]
        )  # SMBIOS: the first three fields little-endian
        options.append((97, b"\0" + mixed))
    if client.is_ipxe:
        options.append((77, b"iPXE"))
    if lease is not None:
        options += [("requested_addr", lease[0]), ("server_id", lease[1])]
    if relay:
        options.append((82, bytes((19, 0))))  # RFC 8357: answer to the port from which the relay asks
    bootp = BOOTP(
        op=1,
        xid=xid,
        chaddr=client.hardware,
        hops=1 if relay else 0,
        secs=secs,
        flags="B",
        ciaddr=address,
        giaddr=relay or UNSPECIFIED,
    )
    return bytes(bootp / DHCP(options=[*options, "end"])).ljust(300, b"\0")


def read(answer: bytes, client: Client) -> Told:
    """What an OFFER or ACK tells. Raises ProbeError where firmware would pass it over."""
    bootp = BOOTP(answer)
    if DHCP not in bootp:
        raise ProbeError(Ending.FAILED, "malformed", "the answer has no options")
    options = {each[0]: each[1] for each in bootp[DHCP].options if isinstance(each, tuple)}
    word = _octets(options.get("vendor_class_id", b""))
    if not word.startswith(client.vendor_class.partition(":")[0].encode()):
        raise ProbeError(Ending.FAILED, "vendor_class", f"option 60 of the answer is {word!r}; firmware drops it")
    tags = _tags(_octets(options.get("vendor_specific", b"")))
    loader = _octets(options.get("boot-file-name", bootp.file)).rstrip(b"\0").decode("latin-1")
    is_given = bool(tags.get(6, b"\0")[0] & FILE_IS_GIVEN)
    server = bootp.siaddr if bootp.siaddr != UNSPECIFIED else str(options.get("server_id", ""))
    is_local = not loader and tags.get(9, b"")[:2] == LOCAL_BOOT
    return Told(server, loader, bool(loader) and (is_given or client.is_http), is_local)


def _octets(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("latin-1")


def _tags(value: bytes) -> dict[int, bytes]:
    """Sub-options of option 43; what is cut short ends the list."""
    tags: dict[int, bytes] = {}
    while len(value) > 1 and value[0] != 255:
        if value[0] == 0:
            value = value[1:]
            continue
        tags[value[0]], value = value[2 : 2 + value[1]], value[2 + value[1] :]
    return tags


def _is_answer(data: bytes, xid: int) -> bool:
    return len(data) >= 240 and data[0] == 2 and int.from_bytes(data[4:8], "big") == xid


class _Unicast:
    """One socket towards one server."""

    def __init__(self, server: tuple[str, int], own: str, timeout_s: float) -> None:
        self._server, self._timeout_s = server, timeout_s
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((own, 0))
        self.address = own

    def say(self, question: bytes) -> None:
        self._sock.sendto(question, self._server)

    def exchange(self, question: bytes, xid: int) -> bytes:
        """The answer. Raises TimeoutError."""
        self.say(question)
        deadline = time.monotonic() + self._timeout_s
        while (left := deadline - time.monotonic()) > 0:
            self._sock.settimeout(left)
            data = self._sock.recv(4096)
            if _is_answer(data, xid):
                return data
        raise TimeoutError

    def close(self) -> None:
        self._sock.close()


class _Relayed(_Unicast):
    """As a relay: unicast to port 67 with our address as giaddr."""

    def __init__(self, target: Target) -> None:
        super().__init__((target.server, target.port), target.relay, target.timeout_s)


class _Broadcast:
    """As firmware: from no address, with the machine's own MAC on the wire. Needs CAP_NET_RAW."""

    def __init__(self, client: Client, target: Target) -> None:
        from scapy.config import conf
        from scapy.interfaces import resolve_iface

        self._client, self._target = client, target
        try:
            self._sock = conf.L2socket(iface=target.interface, promisc=True)
        except (PermissionError, OSError, ValueError) as error:
            detail = f"interface {target.interface}: {error}; broadcasting needs CAP_NET_RAW, or ask as a relay: --relay ADDRESS"
            raise ProbeError(Ending.USAGE, "interface", detail) from None
        self.address = str(resolve_iface(target.interface).ip or UNSPECIFIED)

    def say(self, question: bytes) -> None:
        ports = UDP(sport=68, dport=self._target.port)
        self._sock.send(
            Ether(src=self._client.mac, dst="ff:ff:ff:ff:ff:ff") / IP(src=UNSPECIFIED, dst=EVERYONE) / ports / question
        )

    def exchange(self, question: bytes, xid: int) -> bytes:
        """The first answer of a proxy; a lease server's has an address in it. Raises TimeoutError."""
        self.say(question)
        deadline = time.monotonic() + self._target.timeout_s
        while (left := deadline - time.monotonic()) > 0:
            if not self._sock.select([self._sock], left):
                break
            packet = self._sock.recv(4096)
            data = bytes(packet[UDP].payload) if packet is not None and UDP in packet else b""
            if _is_answer(data, xid) and data[16:20] == bytes(4) and self._is_wanted(packet):
                return data
        raise TimeoutError

    def _is_wanted(self, packet: Any) -> bool:
        """From the server that was named; from any where none was."""
        return not self._target.server or packet[IP].src == self._target.server

    def close(self) -> None:
        self._sock.close()
