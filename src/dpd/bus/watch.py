# SPDX-License-Identifier: Apache-2.0
"""What a bucket has and what changes in it, nothing left out: or an error.

nats-py has a watch, but it makes its consumer before it listens to it. What the server sends between the two is lost without a
word, since only a second message shows that a first one is missing; and its mark "that was all" comes all the same. So here the
one who listens is there first, each message has the number that comes next, and a heartbeat tells how many there were.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpd.errors import BusError

if TYPE_CHECKING:
    from nats.aio.msg import Msg

HEARTBEAT_S = 5.0
SILENT_S = 3 * HEARTBEAT_S
FORGOTTEN_S = 30.0  # the server drops a watch to which nobody has listened for so long
AHEAD = 1024  # messages that wait to be read
STATUS, LAST_CONSUMER, OPERATION, MARKER = (
    "Status",
    "Nats-Last-Consumer",
    "KV-Operation",
    "Nats-Marker-Reason",
)  # ADR-4, ADR-8, ADR-9


@dataclass(frozen=True, slots=True)
class Entry:
    """A key's newest value; where it has been taken out, `is_deleted`."""

    key: str
    value: bytes
    revision: int
    is_deleted: bool = False


class Watch(AsyncIterator[Entry | None]):
    """Each entry there is, then None, then each change. Raises BusError where something was lost on the way or nothing comes
    any more, not even heartbeats: whoever watches begins anew."""

    def __init__(self, bucket: str, came: asyncio.Queue[Msg], pending: int, *, silent_s: float = SILENT_S) -> None:
        """`came` gets what the server sends; `pending` is how many entries there were when it began to."""
        self._bucket = bucket
        self._prefix = f"$KV.{bucket}."
        self._came = came
        self._silent_s = silent_s
        self._last = 0  # the number of the message that came last
        self._is_all = pending == 0  # all that there were have come
        self._is_told = False

    async def __anext__(self) -> Entry | None:
        while True:
            if self._is_all and not self._is_told:
                self._is_told = True
                return None
            message = await self._next()
            headers = message.headers or {}
            if STATUS in headers:
                self._check(int(headers.get(LAST_CONSUMER, self._last)))
                self._is_all = True  # a server that has more to send does not idle
                continue
            metadata = message.metadata
            self._check(metadata.sequence.consumer - 1)
            self._last += 1
            self._is_all = self._is_all or metadata.num_pending == 0
            is_deleted = OPERATION in headers or MARKER in headers
            key = message.subject.removeprefix(self._prefix)
            return Entry(key, message.data, metadata.sequence.stream, is_deleted)

    async def _next(self) -> Msg:
        try:
            async with asyncio.timeout(self._silent_s):
                return await self._came.get()
        except TimeoutError:
            raise BusError(f"the watch of {self._bucket} has fallen silent") from None

    def _check(self, sent: int) -> None:
        """Whether everything that was sent has come."""
        if sent != self._last:
            raise BusError(f"the watch of {self._bucket} lost something: {sent} sent, {self._last} came")
