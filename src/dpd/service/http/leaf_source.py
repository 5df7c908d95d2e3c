# SPDX-License-Identifier: Apache-2.0
"""The leaves of published slabs, computed from the file when a receiver asks for them; and no way to keep us busy with it.

A receiver asks only after a slab came damaged or forged. Each computation reads 5.5 MiB and takes 6 to 15 ms for an
answer of 32 KiB, which is an invitation: so one runs at a time, each is followed by three times its length of rest (a
quarter of one core at most), the latest answers are kept for receivers that met the same forgery, and a queue that grows
too long is refused.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict

from dpd.content.intake import fill
from dpd.content.library import Content, Library
from dpd.errors import ContentCorrupt
from dpd.protocol.multicast.geometry import ROW_BYTES, Geometry
from dpd.protocol.multicast.leaves import leaves_of

KEPT_SLABS = 64  # 2 MiB
MAX_WAITING = 64
REST_PER_WORK = 3.0


class LeafSource:
    """Answers in the loop that asks first, works in its threads."""

    def __init__(self, library: Library) -> None:
        self.computed = self.refused = 0
        self._library = library
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    async def leaves(self, content: Content, slab: int) -> bytes | None:
        """All leaves of an existing slab, row-major, those of the padding included; None: too many wait, ask later.

        Raises ContentNotFound, ContentCorrupt.
        """
        key = (content.sha256, slab)
        if key not in self._kept:
            if self._waiting >= MAX_WAITING:
                self.refused += 1
                return None
            self._waiting += 1
            try:
                await self._turn.acquire()
            finally:
                self._waiting -= 1
            await self._compute(key, content)
        self._kept.move_to_end(key)
        return self._kept[key]

    async def _compute(self, key: tuple[str, int], content: Content) -> None:
        """Whoever asked for the same slab while we waited may have had it computed."""
        rest_s = 0.0
        try:
            if key not in self._kept:
                begun = time.monotonic()
                self._kept[key] = await asyncio.to_thread(self._read, content, key[1])
                rest_s = REST_PER_WORK * (time.monotonic() - begun)
                self.computed += 1
                if len(self._kept) > KEPT_SLABS:
                    self._kept.popitem(last=False)
        finally:
            asyncio.get_running_loop().call_later(rest_s, self._turn.release)

    def _read(self, content: Content, slab: int) -> bytes:
        geometry = Geometry(content.size_bytes)
        rows, wanted = memoryview(bytearray(geometry.rows(slab) * ROW_BYTES)), geometry.slab_bytes(slab)
        descriptor = self._library.open_blob(content)
        try:
            length = fill(descriptor, rows[:wanted], geometry.offset(slab))
        except OSError as error:
            raise ContentCorrupt(f"{content}: slab {slab} cannot be read: {error.strerror}") from None
        finally:
            os.close(descriptor)
        if length < wanted:
            raise ContentCorrupt(f"{content}: its file ends within slab {slab}; `dpd content verify` tells more")
        return leaves_of(rows)
