# SPDX-License-Identifier: Apache-2.0
"""The probe's half of DHCPv6, judged by dpd's own codec and responder."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.dhcp6 import DHCP6OptBootFileUrl

from dpd.protocol.dhcp6.message import decode
from dpd.protocol.pxe.exchange import Grant, Outcome
from dpd.protocol.pxe.identity6 import Identity
from dpd.protocol.pxe.responder6 import Arrival6, Question6, Reply6, Terms6, answer6, hear6
from dpd.protocol.pxe.rules import ClientClass, Rule
from dpd_probe import dhcp6
from dpd_probe.client import Client, Target
from dpd_probe.steps import Account, Ending, ProbeError

CLIENT = Client("52:54:00:00:00:01", "uefi-x64")
HERE = "::1"
RULES = (
    Rule("x64", ClientClass.PXE, "boot/ipxe.efi", (7,)),
    Rule("http", ClientClass.HTTP, "ipxe.efi", (16,)),
    Rule("again", ClientClass.IPXE, "boot.ipxe"),
)
TERMS = Terms6(b"\0\2\0\0\0\1dpd", RULES)


class Server:
    """dpd's responder on a port of loopback, in a thread."""

    def __init__(self, at_boot_port: bool) -> None:
        self.identities: list[Identity] = []
        self._at_boot_port = at_boot_port
        self._sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._sock.bind((HERE, 0))
        self.port: int = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            data, source = self._sock.recvfrom(4096)
            if not data:
                return
            arrival = Arrival6(source[:2], HERE, self._at_boot_port, by_multicast=False)
            question = hear6(decode(data), arrival, TERMS)
            if isinstance(question, Question6):
                self.identities.append(question.identity)
                reply = answer6(question, Grant(Outcome.BOOT, "", "", "", ""), TERMS)
                if isinstance(reply, Reply6):
                    self._sock.sendto(reply.payload, source)

    def close(self) -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", (HERE, self.port))
        self._thread.join()
        self._sock.close()


@contextmanager
def serving() -> Iterator[tuple[Target, Server, Server]]:
    first, second = Server(False), Server(True)
    try:
        yield Target(HERE, first.port, second.port, relay=HERE, timeout_s=0.3), first, second
    finally:
        first.close()
        second.close()


def test_a_relayed_client_is_who_it_says_and_visits_the_boot_server() -> None:
    with serving() as (target, asked, boot):
        told = dhcp6.ask(CLIENT, target, Account())
    assert (told.server, told.loader) == (HERE, "tftp://[::1]/boot/ipxe.efi")
    for server in (asked, boot):
        assert [identity.machine.mac for identity in server.identities] == [CLIENT.mac]
        assert server.identities[0].machine.client_arch == (7,)


@pytest.mark.parametrize(
    ("client", "loader"),
    [
        (Client(CLIENT.mac, "uefi-x64-http"), "http://[::1]:80/boot/ipxe.efi"),
        (Client(CLIENT.mac, "uefi-x64", is_ipxe=True), "tftp://[::1]/boot.ipxe"),
    ],
)
def test_who_takes_the_advertised_url_asks_nobody_again(client: Client, loader: str) -> None:
    with serving() as (target, _, boot):
        assert dhcp6.ask(client, target, Account()).loader == loader
    assert boot.identities == []


def test_silence_is_told() -> None:
    with serving() as (target, _, _), pytest.raises(ProbeError) as caught:
        dhcp6.ask(Client(CLIENT.mac, "uefi-arm64"), target, Account())
    assert caught.value.ending is Ending.NO_ANSWER


@pytest.mark.parametrize(
    "noise", [b"", b"\2", b"\x0d" + bytes(33), b"\7\0\0\1\0\1\xff\xff", b"\x0d" + bytes(33) + b"\0\x09\0\4\2\0\0\0"]
)
def test_noise_is_no_answer(noise: bytes) -> None:
    packet = dhcp6._unpack(noise)
    assert packet is None or DHCP6OptBootFileUrl not in packet


def test_a_relay_address_that_is_not_ours_is_a_wrong_word() -> None:
    with pytest.raises(ProbeError) as caught:
        dhcp6.ask(CLIENT, Target(HERE, relay="2001:db8::1"), Account())
    assert caught.value.ending is Ending.USAGE
