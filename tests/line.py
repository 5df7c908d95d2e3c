# SPDX-License-Identifier: Apache-2.0
"""A line between two TCP places that can be cut as a wide-area line is: nothing comes through, and nobody is told."""

from __future__ import annotations

import select
import socket
import threading
from typing import Self

PIECE_BYTES = 65536
LOOK_S = 0.1


class Line:
    """Listens at `port` and leads to `to`, while the block lasts. Cut, it takes connections and swallows what they say; mended,
    the connections of before stay dead, as after a firewall that has forgotten them."""

    def __init__(self, to: tuple[str, int]) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._is_cut = threading.Event()
        self._is_ending = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._dead: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, name="line", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_ending.set()
        self._thread.join()
        for sock in [self._listener, *self._dead, *(each for pair in self._pairs for each in pair)]:
            sock.close()

    def cut(self) -> None:
        self._is_cut.set()

    def mend(self) -> None:
        self._is_cut.clear()

    def _run(self) -> None:
        while not self._is_ending.is_set():
            if self._is_cut.is_set():
                self._dead += [sock for pair in self._pairs for sock in pair]
                self._pairs = []
            ends = {one: other for pair in self._pairs for one, other in (pair, pair[::-1])}
            readable, _, _ = select.select([self._listener, *ends], [], [], LOOK_S)
            for sock in readable:
                if sock is self._listener:
                    self._accept()
                elif not self._is_cut.is_set():
                    self._pass_on(sock, ends[sock])

    def _accept(self) -> None:
        here, _ = self._listener.accept()
        if self._is_cut.is_set():
            self._dead.append(here)
            return
        try:
            self._pairs.append((here, socket.create_connection(self._to, timeout=5)))
        except OSError:
            here.close()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        try:
            piece = one.recv(PIECE_BYTES)
            if piece:
                other.sendall(piece)
                return
        except OSError:
            pass
        self._pairs = [pair for pair in self._pairs if one not in pair]
        one.close()
        other.close()
