# SPDX-License-Identifier: Apache-2.0
"""A network-boot client played from end to end: DISCOVER → OFFER → boot request on 4011 → loader by TFTP and by HTTP.

It asks as a relay would, so it needs no privilege and no port 68; the daemon it asks is the real one.
"""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass

from dpd.errors import DpdError
from dpd.protocol.machine import Address
from dpd.protocol.pxe.client import BootAnswer, PxeClient
from dpd.protocol.pxe.rules import ClientClass
from dpd.protocol.tftp.packet import Ack, Data, Error, OptionAck, ReadRequest, decode, encode

TIMEOUT_S = 3.0
BLKSIZE, WINDOWSIZE = 1428, 16
MAX_LOADER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class BootPlay:
    """What the client was told and what it fetched."""

    offered: BootAnswer
    answered: BootAnswer
    http_url: str
    by_tftp: bytes
    by_http: bytes


def play_boot(address: str, *, port: int, boot_port: int, tftp_port: int, mac: str) -> BootPlay:
    """Boot a UEFI x64 machine, by PXE and by HTTP boot, as far as the loader. Raises DpdError that names the step."""
    pxe = PxeClient(mac=mac, relay=address)
    offered = _ask(pxe, address, port, "OFFER", lambda xid: pxe.discover(xid))
    answered = _ask(pxe, address, boot_port, "answer on the boot port", lambda xid: pxe.boot_request(xid, address))
    http = PxeClient(mac=mac, relay=address, client_class=ClientClass.HTTP, client_arch=16)
    url = _ask(http, address, port, "OFFER for HTTP boot", lambda xid: http.discover(xid)).loader
    by_tftp = fetch_tftp((answered.server, tftp_port), answered.loader)
    return BootPlay(offered, answered, url, by_tftp, _fetch_http(url))


def ask_for_boot(address: str, boot_port: int, mac: str) -> BootAnswer:
    """As an iPXE that has a lease asks which script to take, which gives the machine its boot ticket. Raises DpdError."""
    client = PxeClient(mac=mac, relay=address, client_class=ClientClass.IPXE)
    return _ask(client, address, boot_port, "answer on the boot port", lambda xid: client.boot_request(xid, address))


def _ask(client: PxeClient, address: str, port: int, what: str, build: Callable[[int], bytes]) -> BootAnswer:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        sock.settimeout(TIMEOUT_S)
        xid = int.from_bytes(b"demo", "big") ^ sock.getsockname()[1]
        sock.sendto(build(xid), (address, port))
        try:
            while True:
                answer = client.read(sock.recv(2048), xid)
                if answer is not None:
                    return answer
        except TimeoutError:
            raise DpdError(f"no {what} from {address} port {port} within {TIMEOUT_S:.0f} s") from None


def fetch_tftp(server: Address, name: str) -> bytes:
    """A file by TFTP, as a boot loader with windows asks (RFC 2348, 7440). Raises DpdError."""
    content = bytearray()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT_S)
        options = (("blksize", str(BLKSIZE)), ("windowsize", str(WINDOWSIZE)))
        sock.sendto(encode(ReadRequest(name, "octet", options)), server)
        expected, is_last = 1, False
        while not is_last and len(content) < MAX_LOADER_BYTES:
            try:
                datagram, peer = sock.recvfrom(65536)
            except TimeoutError:
                raise DpdError(f"TFTP: {name}: nothing from {server[0]} for {TIMEOUT_S:.0f} s") from None
            message = decode(datagram)
            if isinstance(message, OptionAck):
                sock.sendto(encode(Ack(0)), peer)
            elif isinstance(message, Error):
                raise DpdError(f"TFTP: {name}: {message.message}")
            elif isinstance(message, Data) and message.block_number == expected & 0xFFFF:
                content += message.payload
                is_last = len(message.payload) < BLKSIZE
                if is_last or expected % WINDOWSIZE == 0:
                    sock.sendto(encode(Ack(message.block_number)), peer)
                expected += 1
    return bytes(content)


def _fetch_http(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            return bytes(response.read(MAX_LOADER_BYTES))
    except (OSError, ValueError) as error:
        raise DpdError(f"HTTP: {url}: {error}") from None
