# SPDX-License-Identifier: Apache-2.0
"""The proxyDHCP on two networks at once, on ports 67 and 4011, with dnsmasq as the lease server of one of them.

Namespaces: `server` (dpd) has eth1 on network 1 (a bridge with `lease` and `client1`) and eth2 straight to `client2`.
Sockets keep the namespace in which they were opened, so dpd and the clients run inside this process.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.data.dhcp_vectors import VECTORS

from dpd.protocol.dhcp.message import Message, MessageType, decode, encode
from dpd.protocol.dhcp.options import Option, pack_address
from dpd.protocol.pxe.client import PxeClient
from dpd.service.pxe.proxy_dhcp import PxeService
from dpd.settings import PxeSettings
from dpd.telemetry.journal import BootJournal

CLONE_NEWNET = 0x40000000
MISSING = [name for name in ("ip", "dnsmasq") if shutil.which(name) is None] + (["root"] if os.geteuid() else [])

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass(frozen=True)
class Networks:
    """Names of the namespaces by role."""

    prefix: str

    def name(self, role: str) -> str:
        return f"{self.prefix}-{role}"

    def ip(self, role: str, *words: str) -> None:
        ip("-n", self.name(role), *words)

    def join(self, role: str, device: str, other: str, peer: str, address: str = "") -> None:
        ip("link", "add", device, "netns", self.name(role), "type", "veth", "peer", peer, "netns", self.name(other))
        for host, name in ((role, device), (other, peer)):
            self.ip(host, "link", "set", name, "up")
        if address:
            self.ip(role, "address", "add", address, "dev", device)

    @contextmanager
    def inside(self, role: str) -> Iterator[None]:
        """This thread's new sockets belong to the namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/self/ns/net").open("rb") as home, Path(f"/run/netns/{self.name(role)}").open("rb") as there:
            assert libc.setns(there.fileno(), CLONE_NEWNET) == 0
            try:
                yield
            finally:
                assert libc.setns(home.fileno(), CLONE_NEWNET) == 0


@pytest.fixture
def networks() -> Iterator[Networks]:
    networks = Networks(f"dpd{os.getpid()}")
    roles = ("switch", "server", "lease", "client1", "client2")
    try:
        for role in roles:
            ip("netns", "add", networks.name(role))
            networks.ip(role, "link", "set", "lo", "up")
        networks.ip("switch", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
        networks.ip("switch", "link", "set", "br0", "up")
        networks.join("server", "eth1", "switch", "p-server", "10.91.1.10/24")
        networks.join("lease", "eth0", "switch", "p-lease", "10.91.1.2/24")
        networks.join("client1", "eth0", "switch", "p-client")
        for port in ("p-server", "p-lease", "p-client"):
            networks.ip("switch", "link", "set", port, "master", "br0")
        networks.join("server", "eth2", "client2", "eth0", "10.91.2.10/24")
        yield networks
    finally:
        for role in roles:
            subprocess.run(["ip", "netns", "delete", networks.name(role)], check=False, capture_output=True)


@pytest.fixture
def lease_server(networks: Networks) -> Iterator[None]:
    command = (
        "dnsmasq --keep-in-foreground --log-facility=- --conf-file=/dev/null --port=0 --interface=eth0 --user=root"
        " --dhcp-range=10.91.1.100,10.91.1.110,1h --dhcp-authoritative --no-ping --leasefile-ro --pid-file="
    )
    process = subprocess.Popen(
        ["ip", "netns", "exec", networks.name("lease"), *command.split()], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        said = list(itertools.takewhile(lambda line: "IP range" not in line, process.stderr))
        assert process.poll() is None, said
        yield
    finally:
        process.terminate()
        process.wait(5)
        process.stderr.close()


def open_client(networks: Networks, role: str, port: int, address: str = "0.0.0.0") -> socket.socket:
    """As a DHCP client has it: tied to its interface, able to speak before it has an address."""
    with networks.inside(role):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    sock.bind((address, port))
    return sock


async def receive(sock: socket.socket, wanted: Callable[[Message], bool]) -> tuple[bytes, tuple[str, int]]:
    """The next packet that fits, and its sender."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        while True:
            data, source = await loop.sock_recvfrom(sock, 2048)
            if wanted(decode(data)):
                return data, source


async def start(networks: Networks, journal: BootJournal) -> PxeService:
    service = PxeService(PxeSettings(), http_port=8080, journal=journal)
    with networks.inside("server"):
        await service.start()
    return service


def is_proxy(message: Message) -> bool:
    return message.option(Option.VENDOR_CLASS) == b"PXEClient"


async def test_each_network_is_answered_on_its_own_wire_with_its_own_address(networks: Networks) -> None:
    service = await start(networks, BootJournal())
    first, second = open_client(networks, "client1", 68), open_client(networks, "client2", 68)
    for xid, (sock, server) in enumerate(((first, "10.91.1.10"), (second, "10.91.2.10"), (first, "10.91.1.10"))):
        client = PxeClient(mac=f"52:54:00:00:00:{xid:02x}")
        sock.sendto(client.discover(xid), ("255.255.255.255", 67))
        data, source = await receive(sock, is_proxy)
        answer = client.read(data, xid)  # None if it were the answer to another xid
        assert answer is not None
        assert (source, answer.server) == ((server, 67), server)
    with pytest.raises(BlockingIOError):  # nothing of the first network came here
        second.recv(2048)
    await service.stop()
    first.close()
    second.close()


@pytest.mark.usefixtures("lease_server")
async def test_lease_from_dnsmasq_and_loader_from_dpd(networks: Networks) -> None:
    journal = BootJournal()
    service = await start(networks, journal)
    sock = open_client(networks, "client1", 68)
    discover = decode(VECTORS["edk2-x64-discover"])  # OVMF's own bytes
    client = PxeClient(mac=discover.chaddr.hex(":"))

    sock.sendto(encode(discover), ("255.255.255.255", 67))
    both = {}
    for _ in range(2):
        data, source = await receive(sock, lambda message: message.xid == discover.xid)
        both[source] = data
    assert both.keys() == {("10.91.1.2", 67), ("10.91.1.10", 67)}
    answer = client.read(both["10.91.1.10", 67], discover.xid)
    assert answer is not None
    assert (answer.loader, answer.visit_server) == ("ipxe.efi", False)

    address = decode(both["10.91.1.2", 67]).yiaddr
    request = decode(VECTORS["edk2-x64-lease-request"])
    changed = dict(request.options) | {
        int(Option.REQUESTED_ADDRESS): pack_address(address),
        int(Option.SERVER_ID): pack_address("10.91.1.2"),
    }
    sock.sendto(
        encode(Message(1, discover.xid, discover.chaddr, tuple(changed.items()), flags=0x8000)),
        ("255.255.255.255", 67),
    )
    ack, source = await receive(sock, lambda message: message.message_type == MessageType.ACK)
    assert source == ("10.91.1.2", 67)
    assert decode(ack).yiaddr == address

    networks.ip("client1", "address", "add", f"{address}/24", "dev", "eth0")
    with open_client(networks, "client1", 4011, address) as boot:
        boot.sendto(client.boot_request(9, address), ("10.91.1.10", 4011))
        data, source = await receive(boot, is_proxy)
    assert source == ("10.91.1.10", 4011)
    final = client.read(data, 9)
    assert final is not None
    assert (final.message_type, final.loader) == (MessageType.ACK, "ipxe.efi")

    story = [event.event for event in journal.story(client.mac)]
    assert story == [
        "discover",
        "decision",
        "offer",
        "ignored",
        "boot_request",
        "decision",
        "boot_reply",
    ]
    assert service.stats.ignored == {"lease_request": 1}
    await service.stop()
    sock.close()
