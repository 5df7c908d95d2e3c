# SPDX-License-Identifier: Apache-2.0
"""The DHCPv6 half of a boot (RFC 8415, RFC 5970): SOLICIT, and REQUEST to port 4011 of the boot server.

This file is used with scapy (GPL-2.0-only), in a process of its own. dpd itself never imports it, nor scapy.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
import struct
import time
from contextlib import closing
from urllib.parse import unquote, urlsplit

from scapy.layers.dhcp6 import (
    DHCP6,
    DUID_LL,
    USER_CLASS_DATA,
    VENDOR_CLASS_DATA,
    DHCP6_Advertise,
    DHCP6_RelayForward,
    DHCP6_RelayReply,
    DHCP6_Reply,
    DHCP6_Request,
    DHCP6_Solicit,
    DHCP6OptBootFileUrl,
    DHCP6OptClientArchType,
    DHCP6OptClientId,
    DHCP6OptClientLinkLayerAddr,
    DHCP6OptElapsedTime,
    DHCP6OptIA_NA,
    DHCP6OptIAAddress,
    DHCP6OptOptReq,
    DHCP6OptRelayMsg,
    DHCP6OptServerId,
    DHCP6OptUnknown,
    DHCP6OptUserClass,
    DHCP6OptVendorClass,
)
from scapy.packet import Packet

from dpd_probe.client import Client, Target, Told
from dpd_probe.steps import Account, Ending, ProbeError

TRIES = 3
INTEL = 343  # enterprise number under which PXE speaks
EVERY_SERVER = "ff02::1:2"
CLIENT_PORT = 546
RELAY_SOURCE_PORT = 135  # RFC 8357
BOOT_FILE_URL = 59


def ask(client: Client, target: Target, account: Account) -> Told:
    """Play the client up to the URL of its loader. Raises ProbeError."""
    with closing(_open(target)) as sock:
        account.tell("solicit", mac=client.mac, arch=client.arch, relay=target.relay, interface=target.interface)
        told = _ask(sock, client, target, account)
        _take_lease(sock, client, target, told)
    if client.is_http or client.is_ipxe:
        return told
    return _visit_boot_server(client, target, account, told)


def _open(target: Target) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        if target.relay:
            sock.bind((target.relay, 0))
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex(target.interface))
            sock.bind(("::", CLIENT_PORT))
    except OSError as error:
        sock.close()
        raise ProbeError(Ending.USAGE, "socket", f"{target.relay or target.interface}: {error}") from None
    return sock


def _ask(sock: socket.socket, client: Client, target: Target, account: Account) -> Told:
    for attempt in range(TRIES):
        number = secrets.randbits(24)
        elapsed = client.secs * 100 + int(attempt * target.timeout_s * 100)
        question = _message(DHCP6_Solicit(trid=number), client, elapsed) / DHCP6OptIA_NA(iaid=1)
        _say(sock, question, client, target)
        try:
            answer = _receive(sock, number, target.timeout_s)
        except TimeoutError:
            account.tell("silence", attempt=attempt + 1, of=TRIES)
            continue
        told = read(answer)
        account.tell("advertise", server=told.server, loader=told.loader)
        return told
    raise ProbeError(
        Ending.NO_ANSWER, "no_answer", f"nobody answered on port {target.port}: `dpd pxe why {client.mac}` may know"
    )


def _take_lease(sock: socket.socket, client: Client, target: Target, told: Told) -> None:
    """The REQUEST to a lease server, which is not for dpd and tells it the machine's address."""
    with closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as route:
        route.connect((told.server or target.server, 9))  # sends nothing
        address = target.relay or route.getsockname()[0]
    lease = DHCP6OptIA_NA(iaid=1, ianaopts=[DHCP6OptIAAddress(addr=address, preflft=3600, validlft=3600)])
    lease_server = DHCP6OptServerId(duid=DUID_LL(lladdr="02:00:00:00:00:fe"))
    question = _message(DHCP6_Request(trid=secrets.randbits(24)), client, 0) / lease_server / lease
    _say(sock, question, client, target)


def _say(sock: socket.socket, question: Packet, client: Client, target: Target) -> None:
    where = target.server if target.relay else EVERY_SERVER
    sock.sendto(bytes(_relayed(question, client, target) if target.relay else question), (where, target.port))


def _visit_boot_server(client: Client, target: Target, account: Account, told: Told) -> Told:
    server = told.server or target.server
    with closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as sock:
        account.tell("boot_request", server=server, port=target.boot_port)
        for attempt in range(TRIES):
            number = secrets.randbits(24)
            sock.sendto(bytes(_message(DHCP6_Request(trid=number), client, 0)), (server, target.boot_port))
            try:
                final = read(_receive(sock, number, target.timeout_s))
            except TimeoutError:
                account.tell("silence", attempt=attempt + 1, of=TRIES)
                continue
            account.tell("boot_reply", server=final.server, loader=final.loader)
            return final
    raise ProbeError(Ending.NO_ANSWER, "no_answer", f"nobody answered on port {target.boot_port} of {server}")


def _message(head: Packet, client: Client, elapsed_cs: int) -> Packet:
    data = client.vendor_class.encode()
    message = (
        head
        / DHCP6OptClientId(duid=DUID_LL(lladdr=client.mac))
        / DHCP6OptElapsedTime(elapsedtime=min(elapsed_cs, 65535))
        / DHCP6OptOptReq(reqopts=[BOOT_FILE_URL, 60, 23])
        / DHCP6OptClientArchType(archtypes=[client.code])
        / DHCP6OptVendorClass(enterprisenum=INTEL, vcdata=[VENDOR_CLASS_DATA(data=data)])
    )
    if client.is_ipxe:
        message /= DHCP6OptUserClass(userclassdata=[USER_CLASS_DATA(data=b"iPXE")])
    return message


def _relayed(message: Packet, client: Client, target: Target) -> Packet:
    hardware = client.hardware
    local = b"\xfe\x80" + bytes(6) + bytes((hardware[0] ^ 2,)) + hardware[1:3] + b"\xff\xfe" + hardware[3:]
    return (
        DHCP6_RelayForward(hopcount=0, linkaddr=target.relay, peeraddr=str(ipaddress.IPv6Address(local)))
        / DHCP6OptClientLinkLayerAddr(clladdr=client.mac)
        / DHCP6OptUnknown(optcode=RELAY_SOURCE_PORT, optlen=2, data=bytes(2))
        / DHCP6OptRelayMsg(message=message)
    )


def _receive(sock: socket.socket, number: int, timeout_s: float) -> Packet:
    """The ADVERTISE or REPLY to our question, out of its relay. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        packet = _unpack(sock.recv(4096))
        if packet is not None and packet.trid == number and DHCP6OptBootFileUrl in packet:
            return packet
    raise TimeoutError


def _unpack(data: bytes) -> Packet | None:
    kinds = {2: DHCP6_Advertise, 7: DHCP6_Reply, 13: DHCP6_RelayReply}
    if len(data) < 4 or data[0] not in kinds:
        return None
    packet = _dissect(kinds[data[0]], data)
    while isinstance(packet, DHCP6_RelayReply):
        if DHCP6OptRelayMsg not in packet:
            return None
        inside = packet[DHCP6OptRelayMsg].message
        raw = bytes(inside)
        if not isinstance(inside, DHCP6 | DHCP6_RelayReply) and (len(raw) < 4 or raw[0] not in kinds):
            return None
        packet = inside if isinstance(inside, DHCP6 | DHCP6_RelayReply) else _dissect(kinds[raw[0]], raw)
    return packet


def _dissect(kind: type[Packet], data: bytes) -> Packet | None:
    """Scapy raises whatever comes up over bytes that are cut short."""
    try:
        return kind(data)
    except (struct.error, IndexError, ValueError):
        return None


def read(packet: Packet) -> Told:
    """What an answer tells: the URL of option 59, and the server inside it."""
    url = packet[DHCP6OptBootFileUrl].optdata
    text = url.decode("latin-1") if isinstance(url, bytes) else str(url)
    if not re.match(r"(tftp|https?)://", text):
        raise ProbeError(Ending.FAILED, "url", f"option 59 is {text!r}, no URL that firmware takes")
    has_server_id = DHCP6OptServerId in packet
    if not has_server_id:
        raise ProbeError(Ending.FAILED, "server_id", "the answer has no server id; firmware drops it")
    return Told(urlsplit(text).hostname or "", unquote(text) if text.startswith("tftp") else text, True)
