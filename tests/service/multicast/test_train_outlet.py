# SPDX-License-Identifier: Apache-2.0
"""Trains on their way to the group: the same datagrams, whichever way the kernel takes them."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.message import DATAGRAM_BYTES, HEADER_BYTES, TAG_BYTES, Flag, Header, MessageType
from dpd.protocol.multicast.sender import Train
from dpd.service.isal import best_codec
from dpd.service.multicast.row_sender import RowSender
from dpd.service.multicast.slab_source import SlabSource
from dpd.service.multicast.train_outlet import TrainOutlet
from dpd.service.sealing import Opener, Sealer

IMAGE = os.urandom(3 * ROW_BYTES + 100)  # its last row is padded
KEY, SALT = bytes(range(16)), b"salt"


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SlabSource]:
    path = tmp_path / "image"
    path.write_bytes(IMAGE)
    opened = SlabSource(os.open(path, os.O_RDONLY), Geometry(len(IMAGE)), best_codec())
    yield opened
    opened.close()


class Group:
    """Who listens."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(5)
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def outlet(self, source: SlabSource, *, offload: bool = True, sealer: Sealer | None = None) -> TrainOutlet:
        return TrainOutlet(self.sender, self.sock.getsockname(), source, offload=offload, sealer=sealer)

    def read(self, count: int) -> list[bytes]:
        return [self.sock.recv(2048) for _ in range(count)]

    def close(self) -> None:
        self.sock.close()
        self.sender.close()


@pytest.fixture
def group() -> Iterator[Group]:
    opened = Group()
    yield opened
    opened.close()


def row_train(row: int, rows: int = 1) -> Train:
    """Headers that count, so that each datagram tells which it is."""
    headers = b"".join(i.to_bytes(HEADER_BYTES, "big") for i in range(rows * COLUMNS))
    return Train(0, row, None, headers)


def expected(row: int, rows: int = 1) -> list[bytes]:
    padded = IMAGE.ljust(4 * ROW_BYTES, b"\0")[row * ROW_BYTES :]
    return [
        i.to_bytes(HEADER_BYTES, "big") + padded[i * SYMBOL_BYTES : (i + 1) * SYMBOL_BYTES]
        for i in range(rows * COLUMNS)
    ]


@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("row", [0, 2, 3])
def test_a_row_leaves_the_same_with_and_without_offload(
    group: Group, source: SlabSource, row: int, offload: bool
) -> None:
    assert group.outlet(source, offload=offload).send(row_train(row)) == COLUMNS
    assert group.read(COLUMNS) == expected(row)


@pytest.mark.parametrize("row", [0, 2])
def test_rows_that_follow_each_other_leave_together(group: Group, source: SlabSource, row: int) -> None:
    assert group.outlet(source).send(row_train(row, 2)) == 2 * COLUMNS
    assert group.read(2 * COLUMNS) == expected(row, 2)


def test_some_symbols_of_a_row_are_gathered(group: Group, source: SlabSource) -> None:
    train = Train(0, 1, [(1, 4), (1, 9)], b"a" * HEADER_BYTES + b"b" * HEADER_BYTES)
    assert group.outlet(source).send(train) == 2
    symbols = [datagram[HEADER_BYTES:] for datagram in expected(1)]
    assert group.read(2) == [b"a" * HEADER_BYTES + symbols[4], b"b" * HEADER_BYTES + symbols[9]]


def test_a_kernel_that_refuses_trains_gets_datagrams(
    group: Group, source: SlabSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: RowSender, headers: bytes, address: int) -> int:
        raise OSError(errno.EIO, "no checksum offload")

    monkeypatch.setattr(RowSender, "send", refuse)
    outlet = group.outlet(source)
    assert outlet.send(row_train(0)) == COLUMNS
    assert group.read(COLUMNS) == expected(0)


def test_a_queue_that_takes_a_part_is_asked_again_for_the_rest(
    group: Group, source: SlabSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = RowSender.send
    monkeypatch.setattr(
        RowSender,
        "send",
        lambda self, headers, address: send(self, headers[: COLUMNS * HEADER_BYTES], address),
    )
    assert group.outlet(source).send(row_train(0, 2)) == 2 * COLUMNS
    assert group.read(2 * COLUMNS) == expected(0, 2)


def test_sealed_symbols_are_longer_by_their_tag_and_open_to_the_same(group: Group, source: SlabSource) -> None:
    outlet = group.outlet(source, sealer=Sealer(KEY, SALT))
    headers = [Header(MessageType.DATA, 1, 1, Flag.SEALED, tx_seq=i + 1).encode() for i in range(COLUMNS)]
    assert outlet.send(Train(0, 1, None, b"".join(headers))) == COLUMNS
    opener = Opener(KEY, SALT)
    arrived = group.read(COLUMNS)
    assert {len(datagram) for datagram in arrived} == {DATAGRAM_BYTES + TAG_BYTES}
    opened = [opener.open(datagram[:HEADER_BYTES], datagram[HEADER_BYTES:]) for datagram in arrived]
    assert opened == [datagram[HEADER_BYTES:] for datagram in expected(1)]
    assert [datagram[:HEADER_BYTES] for datagram in arrived] == headers
