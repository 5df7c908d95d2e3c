# SPDX-License-Identifier: Apache-2.0
"""Whole rows by sendmmsg: what arrives is what was in the file, header by header."""

from __future__ import annotations

import errno
import mmap
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, SYMBOL_BYTES
from dpd.protocol.multicast.message import DATAGRAM_BYTES, HEADER_BYTES
from dpd.service.multicast.row_sender import MAX_ROWS, RowSender, address_of_mapping, find_sendmmsg
from dpd.service.network.udp import UDP_GRO

FUNCTION = find_sendmmsg()
pytestmark = pytest.mark.skipif(FUNCTION is None, reason="the C library has no sendmmsg")


@pytest.fixture
def mapping(tmp_path: Path) -> Iterator[mmap.mmap]:
    path = tmp_path / "image"
    path.write_bytes(os.urandom(3 * ROW_BYTES + 5))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        yield mapped


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["IPv4", "IPv6"]
)
def test_rows_leave_as_trains_of_headers_and_symbols(mapping: mmap.mmap, family: int, host: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as theirs, socket.socket(family, socket.SOCK_DGRAM) as ours:
        theirs.bind((host, 0))
        theirs.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        theirs.settimeout(5)
        sender = RowSender(FUNCTION, ours, theirs.getsockname()[:2])
        for first, rows in ((0, 1), (1, 2)):
            headers = os.urandom(rows * COLUMNS * HEADER_BYTES)
            at = address_of_mapping(mapping) + first * ROW_BYTES
            assert sender.send(headers, at) == rows
            arrived = b"".join(theirs.recv(65535) for _ in range(rows))
            assert arrived == b"".join(
                headers[i * HEADER_BYTES :][:HEADER_BYTES]
                + mapping[first * ROW_BYTES + i * SYMBOL_BYTES :][:SYMBOL_BYTES]
                for i in range(rows * COLUMNS)
            )
            assert len(arrived) == rows * COLUMNS * DATAGRAM_BYTES


def test_what_the_kernel_refuses_is_raised(mapping: mmap.mmap) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        sender = RowSender(FUNCTION, ours, ("127.0.0.1", 9))
        with pytest.raises(OSError, match="Bad address") as caught:
            sender.send(bytes(MAX_ROWS * COLUMNS * HEADER_BYTES), 4096)
        assert caught.value.errno == errno.EFAULT


def test_the_address_of_a_mapping_is_that_of_its_bytes(mapping: mmap.mmap) -> None:
    import ctypes

    assert ctypes.string_at(address_of_mapping(mapping), 100) == mapping[:100]
