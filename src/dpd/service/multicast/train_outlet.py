# SPDX-License-Identifier: Apache-2.0
"""The way of a stream's trains to its group: whole rows straight from the mapped file, everything else gathered."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from dpd.protocol.machine import Buffer
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES
from dpd.protocol.multicast.message import DATAGRAM_BYTES, HEADER_BYTES, TAG_BYTES
from dpd.protocol.multicast.sender import Train
from dpd.service.multicast.row_sender import RowSender, find_sendmmsg
from dpd.service.multicast.slab_source import SlabSource
from dpd.service.network.udp import NO_SEGMENTATION, TrainSender
from dpd.service.sealing import Sealer

_ROW_HEADER_BYTES = COLUMNS * HEADER_BYTES


class TrainOutlet:
    """Sends trains of `source` to `destination`, each symbol encrypted where there is a `sealer`."""

    def __init__(
        self,
        sock: socket.socket,
        destination: tuple[str, int],
        source: SlabSource,
        *,
        offload: bool,
        sealer: Sealer | None = None,
    ) -> None:
        self.datagram_bytes = DATAGRAM_BYTES + (TAG_BYTES if sealer else 0)
        self._destination = destination
        self._source = source
        self._sealer = sealer
        self._trains = TrainSender(sock, offload=offload)
        function = find_sendmmsg() if offload and sealer is None else None
        self._rows = RowSender(function, sock, destination) if function else None

    @property
    def offload(self) -> bool:
        """Whether the kernel or the card cuts trains; False once one of them has refused."""
        return self._trains.offload

    def send(self, train: Train) -> int:
        """Returns the number of datagrams that the kernel took. Raises OSError."""
        if self._rows is None or train.symbols is not None:
            return self._send_gathered(train)
        rows = train.count // COLUMNS
        address = self._source.address(train.slab, train.row, rows)
        if address is None:
            return self._send_gathered(train)
        try:
            sent = self._rows.send(train.headers, address)
        except OSError as error:
            if error.errno not in NO_SEGMENTATION:
                raise
            self._rows = None  # TrainSender finds out what it can do without
            return self._send_gathered(train)
        if sent < rows:  # a full queue: what is left is tried once more, so that a train is not lost for it
            sent += self._rows.send(train.headers[sent * _ROW_HEADER_BYTES :], address + sent * ROW_BYTES)
        return sent * COLUMNS

    def _send_gathered(self, train: Train) -> int:
        sent = 0
        for one in _single(train):
            pieces: Sequence[Buffer] = self._source.pieces(one)
            if self._sealer is not None:
                pieces = self._sealer.seal(pieces)
            sent += self._trains.send(pieces, self.datagram_bytes, self._destination)
        return sent


def _single(train: Train) -> list[Train]:
    """A train of several rows as one for each: more does not fit one send."""
    if train.symbols is not None or train.count == COLUMNS:
        return [train]
    return [
        Train(train.slab, train.row + row, None, train.headers[row * _ROW_HEADER_BYTES :][:_ROW_HEADER_BYTES])
        for row in range(train.count // COLUMNS)
    ]
