# SPDX-License-Identifier: Apache-2.0
"""Bodies that a worker's thread reads or writes, while the loop moves them: the thread waits whenever the peer is slow."""

from __future__ import annotations

import asyncio

from aiohttp import web

from dpd.errors import ContentError

PIECE_BYTES = 1 << 20
WAIT_S = 600.0  # for a peer that moves nothing


class BodyReader:
    """The request's body, for one thread. Made on the loop."""

    def __init__(self, request: web.Request) -> None:
        self._content = request.content
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._offset = 0

    def read(self, count: int) -> bytes:
        """At most so many bytes; none at the end. Raises ContentError where the peer goes away or stalls."""
        if self._offset >= len(self._rest):
            self._rest, self._offset = self._receive(), 0
        piece = self._rest[self._offset : self._offset + count]
        self._offset += len(piece)
        return piece

    def _receive(self) -> bytes:
        try:
            waiting = asyncio.run_coroutine_threadsafe(self._content.read(PIECE_BYTES), self._loop)
            return waiting.result(WAIT_S)
        except (OSError, TimeoutError) as error:
            raise ContentError(
                f"the upload broke off: {error or 'nothing came'}; send it again, what came stays"
            ) from None


class BodyWriter:
    """The body of a response that has been prepared, for one thread. Made on the loop."""

    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response
        self._loop = asyncio.get_running_loop()
        self._held = bytearray()

    def write(self, piece: bytes | memoryview) -> None:
        """Small pieces are held until they are worth the way. Raises ConnectionError where the peer goes away or stalls."""
        self._held += piece
        if len(self._held) >= PIECE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what is held."""
        piece, self._held = bytes(self._held), bytearray()
        try:
            asyncio.run_coroutine_threadsafe(self._response.write(piece), self._loop).result(WAIT_S)
        except TimeoutError:
            raise ConnectionError("the peer takes nothing") from None
