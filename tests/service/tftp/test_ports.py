# SPDX-License-Identifier: Apache-2.0
"""Which sockets transfers get."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from dpd.errors import ServiceError
from dpd.protocol.machine import Datagram
from dpd.service.network.udp import open_udp, receive_batch
from dpd.service.tftp.ports import RECEIVE_BUFFER_BYTES, TransferPorts
from dpd.settings import TftpSettings

CLIENT = ("127.0.0.1", 4444)


def nobody(datagram: Datagram) -> None:
    raise AssertionError(datagram)


def free_port() -> int:
    with open_udp("127.0.0.1", 0) as sock:
        return int(sock.getsockname()[1])


def test_the_kernel_chooses_where_the_settings_do_not() -> None:
    ports = TransferPorts(TftpSettings(listen="127.0.0.1", port=0))
    with ports.open_requests() as requests, ports.open_transfer("127.0.0.1", 69, CLIENT, nobody) as transfer:
        assert transfer.getsockname()[1] not in (0, requests.getsockname()[1])


def test_transfers_stay_within_the_range_and_say_when_it_is_full() -> None:
    low = next(port for port in iter(free_port, 0) if port < 65000)
    ports = TransferPorts(TftpSettings(port_low=low, port_high=low + 2))
    with ExitStack() as opened:
        opened.enter_context(open_udp("127.0.0.1", low + 1))  # somebody else's
        taken = [opened.enter_context(ports.open_transfer("127.0.0.1", 69, CLIENT, nobody)) for _ in range(2)]
        assert {sock.getsockname()[1] for sock in taken} == {low, low + 2}
        with pytest.raises(ServiceError, match=f"every port from tftp.port_low = {low} to tftp.port_high = {low + 2}"):
            ports.open_transfer("127.0.0.1", 69, CLIENT, nobody)
        taken[1].close()
        opened.enter_context(ports.open_transfer("127.0.0.1", 69, CLIENT, nobody))


def test_by_one_port_each_client_reaches_its_own_transfer() -> None:
    ports = TransferPorts(TftpSettings(listen="127.0.0.1", port=0, single_port=True))
    with ExitStack() as opened:
        requests = opened.enter_context(ports.open_requests())
        server = requests.getsockname()
        clients = [opened.enter_context(open_udp("127.0.0.1", 0)) for _ in range(3)]
        transfers = [
            opened.enter_context(ports.open_transfer("127.0.0.1", server[1], client.getsockname(), nobody))
            for client in clients[:2]
        ]
        for number, client in enumerate(clients):
            client.sendto(b"from %d" % number, server)
        assert [transfer.recv(100) for transfer in transfers] == [b"from 0", b"from 1"]
        assert requests.recv(100) == b"from 2"
        transfers[0].send(b"answer")
        assert clients[0].recvfrom(100) == (b"answer", server)


def test_by_one_port_requests_that_came_in_between_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between bind and connect the new socket takes what is for the request port; the moment is made long here."""
    ports = TransferPorts(TftpSettings(listen="127.0.0.1", port=0, single_port=True))
    misled: list[Datagram] = []
    with ports.open_requests() as requests, open_udp("127.0.0.1", 0) as other:
        server = requests.getsockname()
        real = socket.socket.connect

        class Slow(socket.socket):
            def connect(self, address: object) -> None:
                other.sendto(b"request", server)
                real(self, address)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(socket, "socket", Slow)
            transfer = ports.open_transfer("127.0.0.1", server[1], CLIENT, misled.append)
        with transfer:
            received: list[Datagram] = []
            receive_batch(requests, received.append)
            (datagram,) = misled + received
            assert datagram.payload == b"request"
            assert datagram.source == other.getsockname()
            assert datagram.local == datagram.answer_from == "127.0.0.1"


def test_a_port_that_a_stranger_has_is_told_by_one_port_too() -> None:
    with open_udp("127.0.0.1", 0) as stranger:
        port = stranger.getsockname()[1]
        ports = TransferPorts(TftpSettings(listen="127.0.0.1", port=port, single_port=True))
        with pytest.raises(ServiceError, match=f"port {port} is in use"):
            ports.open_requests()


@pytest.mark.parametrize("single_port", [False, True])
def test_the_first_requests_of_a_thousand_machines_wait_for_us(single_port: bool) -> None:
    """The loop may be busy for as long as they take to come; what overflows is asked for again after seconds."""
    settings = TftpSettings(listen="127.0.0.1", port=0, single_port=single_port)
    with TransferPorts(settings).open_requests() as requests, socket.socket(type=socket.SOCK_DGRAM) as machines:
        if requests.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < RECEIVE_BUFFER_BYTES:
            pytest.skip("the system's limit of receive buffers holds: net.core.rmem_max")
        for _ in range(1000):
            machines.sendto(b"\0\1boot/snponly.efi\0octet\0blksize\x001468\0", requests.getsockname())
        taken: list[Datagram] = []
        while receive_batch(requests, taken.append):
            continue
    assert len(taken) == 1000
