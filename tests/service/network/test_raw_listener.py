# SPDX-License-Identifier: Apache-2.0
"""Datagrams for others, seen by the card: filtered in the kernel, read strictly."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.errors import MalformedMessage, ServiceError
from dpd.service.network.raw_listener import RawDatagram, RawListener, open_packet_socket, read_udp, udp_filter

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a packet socket")


def packet(
    payload: bytes = b"hello", *, ports: tuple[int, int] = (67, 68), fragment: int = 0, protocol: int = 17
) -> bytes:
    """An IPv4 packet with UDP inside; its checksums are blank."""
    udp = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    addresses = socket.inet_aton("10.0.0.1") + socket.inet_aton("10.0.0.2")
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, fragment, 64, protocol, 0) + addresses + udp


def test_a_packet_is_read() -> None:
    assert read_udp(packet()) == (("10.0.0.1", 67), ("10.0.0.2", 68), b"hello")


def test_padding_of_a_short_frame_is_no_payload() -> None:
    assert read_udp(packet() + bytes(30))[2] == b"hello"


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"", "no_ipv4"),
        (b"\x65" + packet()[1:], "no_ipv4"),
        (b"\x41" + packet()[1:], "ip_length"),
        (packet()[:-1], "ip_length"),
        (packet(fragment=0x2000), "no_whole_udp"),
        (packet(fragment=7), "no_whole_udp"),
        (packet(protocol=6), "no_whole_udp"),
        (packet()[:24] + b"\xff\xff" + packet()[26:], "udp_length"),
        (packet()[:24] + b"\0\7" + packet()[26:], "udp_length"),
    ],
)
def test_a_packet_that_lies_is_refused_by_reason(broken: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        read_udp(broken)
    assert caught.value.reason == reason


@given(st.binary(max_size=80))
def test_any_bytes_are_a_datagram_or_malformed(noise: bytes) -> None:
    try:
        _, _, payload = read_udp(noise)
    except MalformedMessage:
        return
    assert payload in noise


@needs_root
async def test_only_datagrams_with_a_wanted_port_wake_the_listener() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wanted,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
    ):
        for each in (wanted, other, here):
            each.bind(("127.0.0.1", 0))
        ports = (wanted.getsockname()[1],)
        seen: asyncio.Queue[RawDatagram] = asyncio.Queue()
        listener = RawListener(open_packet_socket(udp_filter(source_ports=ports)), seen.put_nowait)
        other.sendto(b"unwanted", here.getsockname())
        wanted.sendto(b"wanted", here.getsockname())
        datagram = await asyncio.wait_for(seen.get(), 5)
        assert (datagram.payload, datagram.source, datagram.destination) == (
            b"wanted",
            wanted.getsockname(),
            here.getsockname(),
        )
        assert datagram.interface == socket.if_nametoindex("lo")
        wanted.sendto(bytes(3000), here.getsockname())
        assert len((await asyncio.wait_for(seen.get(), 5)).payload) == 3000
        assert seen.empty()
        listener.close()
        listener.close()


@needs_root
async def test_either_end_may_have_the_wanted_port() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        here.bind(("127.0.0.1", 0))
        peer.bind(("127.0.0.1", 0))
        seen: asyncio.Queue[RawDatagram] = asyncio.Queue()
        program = udp_filter(source_ports=(1, 2), destination_ports=(3, here.getsockname()[1]))
        listener = RawListener(open_packet_socket(program), seen.put_nowait)
        peer.sendto(b"to", here.getsockname())
        assert (await asyncio.wait_for(seen.get(), 5)).payload == b"to"
        listener.close()


@needs_root
async def test_of_a_port_only_what_begins_as_wanted_passes() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        here.bind(("127.0.0.1", 0))
        peer.bind(("127.0.0.1", 0))
        to, of = (here.getsockname()[1],), (peer.getsockname()[1],)
        everything = [b"\0\4", b"", b"\0\1file", b"\0\1"]
        for program, expected in (
            (udp_filter(source_ports=(9, *of)), everything),
            (udp_filter(destination_ports=to, destination_begins=b"\0\1"), [b"\0\1file", b"\0\1"]),
            (udp_filter(source_ports=of, source_begins=b"\0"), [b"\0\4", b"\0\1file", b"\0\1"]),
            (udp_filter(source_ports=of, source_begins=b"\0\1fi"), [b"\0\1file"]),
            (
                udp_filter(source_ports=(9,), source_begins=b"\2", destination_ports=to, destination_begins=b"\0\4"),
                [b"\0\4"],
            ),
            (udp_filter(source_ports=of, source_begins=b"\2", destination_ports=(9,), destination_begins=b"\0\4"), []),
        ):
            seen: asyncio.Queue[RawDatagram] = asyncio.Queue()
            listener = RawListener(open_packet_socket(program), seen.put_nowait)
            for payload in everything:
                peer.sendto(payload, here.getsockname())
            assert [(await asyncio.wait_for(seen.get(), 5)).payload for _ in expected] == expected
            await asyncio.sleep(0.05)
            assert seen.empty()
            listener.close()


def test_who_may_not_is_told_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(ServiceError, match="CAP_NET_RAW"):
        open_packet_socket(udp_filter(source_ports=(67,)))
