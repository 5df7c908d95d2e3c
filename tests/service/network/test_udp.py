# SPDX-License-Identifier: Apache-2.0
"""UDP sockets as the kernel really has them: loopback only, port 0, no mock."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from dpd.errors import ServiceError
from dpd.protocol.machine import Datagram
from dpd.service.network.udp import (
    MAX_TRAIN_SEGMENTS,
    TrainSender,
    UdpReader,
    explain_bind,
    grow_receive_buffer,
    interface_address,
    interface_index,
    join_group,
    leave_group,
    open_udp,
    receive_batch,
    receiving_address,
    send_datagram,
)

SO_NO_CHECK = 11  # <asm-generic/socket.h>


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            return False
    return True


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with closing(open_udp("0.0.0.0", 0, pktinfo=True)) as sock:
        yield sock


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    with closing(open_udp("127.0.0.1", 0)) as sock:
        yield sock


def drained(sock: socket.socket) -> list[Datagram]:
    """Loopback delivers within the send call, so that nothing has to be waited for."""
    datagrams: list[Datagram] = []
    receive_batch(sock, datagrams.append)
    return datagrams


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def test_a_datagram_tells_where_it_was_sent_to(receiver: socket.socket, sender: socket.socket) -> None:
    assert send_datagram(sender, b"x", ("127.0.0.2", port_of(receiver)))
    (datagram,) = drained(receiver)
    assert datagram.payload == b"x"
    assert datagram.source == sender.getsockname()
    assert datagram.local == datagram.answer_from == "127.0.0.2"
    assert datagram.interface == socket.if_nametoindex("lo")


def test_a_broadcast_tells_another_address_to_answer_from(receiver: socket.socket) -> None:
    with closing(open_udp("127.0.0.1", 0, broadcast=True)) as sender:
        assert send_datagram(sender, b"x", ("127.255.255.255", port_of(receiver)))
    (datagram,) = drained(receiver)
    assert (datagram.local, datagram.answer_from) == ("127.255.255.255", "127.0.0.1")


def test_the_answer_comes_from_the_address_that_was_asked(receiver: socket.socket, sender: socket.socket) -> None:
    with closing(open_udp("0.0.0.0", 0)) as server:
        assert send_datagram(server, b"x", ("127.0.0.1", port_of(receiver)), local="127.0.0.7")
        assert drained(receiver)[0].source == ("127.0.0.7", port_of(server))


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_ipv6_tells_and_takes_addresses_as_well() -> None:
    with closing(open_udp("::", 0, pktinfo=True)) as server, closing(open_udp("::1", 0)) as client:
        assert send_datagram(client, b"x", ("::1", port_of(server)))
        (datagram,) = drained(server)
        assert (datagram.local, datagram.answer_from) == ("::1", "::1")
        assert datagram.interface == socket.if_nametoindex("lo")
        assert send_datagram(server, b"y", datagram.source, local=datagram.answer_from)
        assert drained(client)[0].source == ("::1", port_of(server))


def link_local() -> str:
    """One of this machine's link-local addresses with its interface; the kernel keeps what we send to it inside."""
    for line in Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines():
        octets, index, _, scope, flags, _ = line.split()
        if scope == "20" and not int(flags, 16) & 0x40:  # IPV6_ADDR_LINKLOCAL, not IFA_F_TENTATIVE
            return f"{socket.inet_ntop(socket.AF_INET6, bytes.fromhex(octets))}%{int(index, 16)}"
    return ""


@pytest.mark.skipif(not has_ipv6() or not link_local(), reason="this machine has no link-local IPv6 address")
def test_a_link_local_address_keeps_its_interface_both_ways() -> None:
    address = link_local()
    with closing(open_udp("::", 0, pktinfo=True)) as server, closing(open_udp(address, 0)) as client:
        assert send_datagram(client, b"x", (address, port_of(server)))
        (datagram,) = drained(server)
        assert datagram.source == (address, port_of(client))
        assert datagram.local == datagram.answer_from == address
        with closing(open_udp(datagram.answer_from, 0)) as transfer:
            assert TrainSender(transfer).send([b"y"], 1, datagram.source) == 1
        assert [answer.payload for answer in drained(client)] == [b"y"]


def test_a_batch_takes_no_more_than_its_limit(receiver: socket.socket, sender: socket.socket) -> None:
    for number in range(5):
        send_datagram(sender, bytes([number]), ("127.0.0.1", port_of(receiver)))
    first: list[Datagram] = []
    assert receive_batch(receiver, first.append, limit=3) == 3
    assert [datagram.payload for datagram in first + drained(receiver)] == [bytes([n]) for n in range(5)]


def test_a_queued_icmp_error_does_not_end_the_reading(receiver: socket.socket) -> None:
    with closing(open_udp("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
    with closing(open_udp("127.0.0.1", 0)) as sock:
        sock.connect(address)
        sock.send(b"nobody hears this")
        assert receive_batch(sock, lambda _: None, limit=1) == 1


def test_a_full_train_arrives_as_its_datagrams(receiver: socket.socket, sender: socket.socket) -> None:
    train = TrainSender(sender)
    pieces = [piece for number in range(MAX_TRAIN_SEGMENTS) for piece in (bytes([number]), bytes(9))]
    assert train.send([*pieces[:-1], b"end"], 10, ("127.0.0.1", port_of(receiver))) == MAX_TRAIN_SEGMENTS
    datagrams = drained(receiver)
    assert [datagram.payload[0] for datagram in datagrams] == list(range(MAX_TRAIN_SEGMENTS))
    assert datagrams[-1].payload == bytes([MAX_TRAIN_SEGMENTS - 1]) + b"end"


def test_where_the_kernel_refuses_a_train_its_datagrams_go_one_by_one(receiver: socket.socket) -> None:
    """Segmentation needs checksums: with SO_NO_CHECK the kernel answers EIO, as for a card that cannot compute them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        train = TrainSender(sock)
        destination = ("127.0.0.1", port_of(receiver))
        assert train.send([b"a1", b"a2", b"b1", b"b2", b"c"], 4, destination) == 3
        assert not train.offload
        assert train.send([b"d1d2", b"e"], 4, destination) == 2
    assert [datagram.payload for datagram in drained(receiver)] == [b"a1a2", b"b1b2", b"c", b"d1d2", b"e"]


def test_a_connected_train_needs_no_destination(receiver: socket.socket, sender: socket.socket) -> None:
    sender.connect(("127.0.0.1", port_of(receiver)))
    assert TrainSender(sender).send([b"aa", b"b"], 2) == 2
    assert [datagram.payload for datagram in drained(receiver)] == [b"aa", b"b"]


async def test_the_reader_feeds_the_loop_and_closes_twice(sender: socket.socket) -> None:
    heard: asyncio.Queue[Datagram] = asyncio.Queue()
    reader = UdpReader(open_udp("127.0.0.1", 0), heard.put_nowait)
    send_datagram(sender, b"x", reader.sock.getsockname())
    assert (await asyncio.wait_for(heard.get(), 5)).payload == b"x"
    reader.close()
    reader.close()
    assert reader.sock.fileno() == -1


def test_a_joined_group_reaches_the_socket_and_another_does_not(receiver: socket.socket) -> None:
    join_group(receiver, "239.192.77.1", "127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
        sock.sendto(b"ours", ("239.192.77.1", port_of(receiver)))
        sock.sendto(b"another", ("239.192.77.2", port_of(receiver)))
    assert [datagram.payload for datagram in drained(receiver)] == [b"ours"]


def test_a_left_group_brings_nothing_more(receiver: socket.socket) -> None:
    join_group(receiver, "239.192.77.1", "127.0.0.1")
    leave_group(receiver, "239.192.77.1", "127.0.0.1")
    with closing(speaker("127.0.0.1")) as sock:
        sock.sendto(b"late", ("239.192.77.1", port_of(receiver)))
    assert drained(receiver) == []


def test_a_source_specific_group_is_heard_from_its_source_alone() -> None:
    with closing(open_udp("0.0.0.0", 0)) as receiver:
        join_group(receiver, "232.192.77.1", "127.0.0.1", "127.0.0.2")
        for source in ("127.0.0.1", "127.0.0.2"):
            with closing(speaker(source)) as sock:
                sock.sendto(source.encode(), ("232.192.77.1", port_of(receiver)))
        assert [datagram.payload for datagram in drained(receiver)] == [b"127.0.0.2"]
        leave_group(receiver, "232.192.77.1", "127.0.0.1", "127.0.0.2")


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace of its own needs root")
@pytest.mark.parametrize("source", ["", "fd00::2"], ids=["any source", "one source"])
def test_an_ipv6_group_is_heard_by_the_interface_of_an_address(source: str) -> None:
    """On a cable with two addresses at one end; loopback has no IPv6 multicast."""
    if not has_ipv6():
        pytest.skip("a kernel without IPv6")
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(hear_ipv6_on_a_cable, source).result()
    assert heard == ([b"fd00::2"] if source else [b"fd00::1", b"fd00::2"])


def hear_ipv6_on_a_cable(source: str) -> list[bytes]:
    assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0  # CLONE_NEWNET, of this thread alone
    for command in (
        "link add v0 type veth peer name v1",
        "link set v1 up",
        "link set v0 up",
        "address add fd00::1/64 dev v0 nodad",
        "address add fd00::2/64 dev v0 nodad",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    with closing(open_udp("::", 0)) as receiver:
        join_group(receiver, "ff35::7777:1", "fd00::1", source)
        for address in ("fd00::1", "fd00::2"):
            with closing(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)) as sock:
                sock.bind((address, 0))
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("v0"))
                sock.sendto(address.encode(), ("ff35::7777:1", port_of(receiver)))
                sock.sendto(b"another", ("ff35::7777:2", port_of(receiver)))
        time.sleep(0.05)
        return [datagram.payload for datagram in drained(receiver)]


def speaker(address: str) -> socket.socket:
    """A socket that sends to groups over loopback, from this address."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
    return sock


def test_an_interface_is_found_by_any_of_its_addresses() -> None:
    assert interface_index("127.0.0.1") == socket.if_nametoindex("lo")
    assert [interface_index(address) for address in ("", "0.0.0.0", "::")] == [0, 0, 0]
    with pytest.raises(OSError, match=r"no interface has the address 192.0.2.77"):
        interface_index("192.0.2.77")


def test_the_address_to_receive_by_is_any_that_an_interface_has() -> None:
    assert receiving_address("lo") == "127.0.0.1"
    with pytest.raises(ServiceError, match=r"^interface nowhere0: no such interface, or it has no address; `ip -br"):
        receiving_address("nowhere0")


def test_a_grown_receive_buffer_is_what_the_kernel_says(receiver: socket.socket) -> None:
    before = receiver.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    granted = grow_receive_buffer(receiver, 1 << 20)
    assert granted == receiver.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert granted >= before


def test_the_address_of_an_interface() -> None:
    assert interface_address("lo") == "127.0.0.1"
    with pytest.raises(
        ServiceError, match=r"^interface nowhere0: no such interface, or it has no IPv4 address; `ip -br"
    ):
        interface_address("nowhere0")


def test_a_port_in_use_is_told_with_the_command_that_names_its_holder() -> None:
    with closing(open_udp("127.0.0.1", 0)) as holder:
        port = port_of(holder)
        with pytest.raises(ServiceError) as caught:
            open_udp("127.0.0.1", port, purpose="TFTP")
    assert str(caught.value) == (
        f"TFTP (127.0.0.1 UDP {port}): port {port} is in use; `ss -Hulpn 'sport = :{port}'` (as root) names the process "
        "that holds it: stop that one, or choose another port in the settings"
    )


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(ServiceError) as caught:
        open_udp("192.0.2.77", 0, purpose="TFTP")
    assert str(caught.value) == (
        "TFTP (192.0.2.77 UDP 0): this machine does not have that address; `ip -br address` lists those it has"
    )


def test_another_error_is_told_in_the_systems_words() -> None:
    assert explain_bind(OSError(97, "Address family not supported"), "X", "udp", 1) == "X: Address family not supported"


UNPRIVILEGED = """
import os, sys
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
from dpd.errors import ServiceError
from dpd.service.network.udp import open_udp
try:
    open_udp("127.0.0.1", int(sys.argv[1]), purpose=sys.argv[2])
except ServiceError as error:
    print(error)
"""


def lowest_free_port() -> int:
    return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii"))


@pytest.mark.skipif(lowest_free_port() <= 69, reason="this kernel lets everyone bind low ports")
@pytest.mark.parametrize(("port", "purpose"), [(69, "TFTP"), (67, "proxyDHCP")])
def test_a_low_port_without_the_capability_is_told_with_what_grants_it(port: int, purpose: str) -> None:
    import dpd

    sources = str(Path(dpd.__path__[0]).parent)
    # Imported before the privileges go: the interpreter may live below a directory that only root can enter.
    run = subprocess.run(
        [sys.executable, "-c", f"import dpd.service.network.udp\n{UNPRIVILEGED}", str(port), purpose],
        env={**os.environ, "PYTHONPATH": sources},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert run.stdout.strip() == (
        f"{purpose} (127.0.0.1 UDP {port}): not permitted; ports below 1024 need CAP_NET_BIND_SERVICE: run it as the systemd "
        "service dpd.service, or `setcap cap_net_bind_service=+ep` on the Python that runs dpd, or choose a high port in the "
        "settings"
    )
