# SPDX-License-Identifier: Apache-2.0
"""The asker's side of a request over the bus: parts in order, none twice, whatever gets lost on the way.

A part that is missing, or nothing at all for a while, is asked for again under the same id, which the point does not do twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import msgspec

from dpd.bus.link import Link
from dpd.bus.messages import MAX_ASK_BYTES, Answer, Ask, decode, encode
from dpd.bus.subjects import point_of
from dpd.errors import BusError, BusUnavailable

if TYPE_CHECKING:
    from nats.aio.msg import Msg

WAITING_SIGN_S = 1.0  # how often a point says that it is at it
LEASE_S = 60.0  # for so long a point goes on telling somebody of whom it does not hear
TRIES = 3  # within the time that the asker has

_NOBODY = "503"  # NATS: there is no subscriber


async def ask(link: Link, subject: str, request: Ask, *, timeout_s: float) -> AsyncGenerator[Answer, None]:
    """Each part behind `request.after`. The point must give a sign within `timeout_s`, again and again. Whoever stops
    reading closes the iterator, which tells the point. Raises BusUnavailable, BusError."""
    if len(request.body.encode()) > MAX_ASK_BYTES:
        raise BusError(
            f"{request.method} {request.target}: a body of more than {MAX_ASK_BYTES} bytes does not go over the bus; ask the point by its own API"
        )
    asking = _Asking(link, subject, request, max(timeout_s, 3 * WAITING_SIGN_S))
    async with link.subscribed(asking.inbox, asking.take):
        try:
            await asking.send()
            while (part := await asking.next()) is not None:
                yield part
        finally:
            await asking.end()


class _Asking:
    """One request under way."""

    def __init__(self, link: Link, subject: str, request: Ask, timeout_s: float) -> None:
        self.inbox = link.client.new_inbox()
        self._link = link
        self._subject = subject
        self._request = request
        self._timeout_s = timeout_s
        self._came: asyncio.Queue[Msg] = asyncio.Queue()
        self._next = request.after + 1
        self._has_ended = False
        self._asked_again_at = 0.0
        self._renew_at = 0.0

    async def take(self, message: Msg) -> None:
        self._came.put_nowait(message)

    async def send(self) -> None:
        self._renew_at = time.monotonic() + LEASE_S / 3
        request = msgspec.structs.replace(self._request, after=self._next - 1)
        await self._link.publish(self._subject, encode(request), reply=self.inbox)

    async def next(self) -> Answer | None:
        """The next part; None after the last."""
        while not self._has_ended:
            part = decode(Answer, (await self._sign()).data)
            if time.monotonic() >= self._renew_at:
                await self.send()
            if part.sequence > self._next:  # something between got lost
                await self._ask_again()
            elif part.sequence == self._next and not part.is_waiting:
                self._next += 1
                self._has_ended = part.is_last
                return part
        return None

    async def _ask_again(self) -> None:
        """Not for each of the parts that come behind a gap."""
        now = time.monotonic()
        if now >= self._asked_again_at:
            self._asked_again_at = now + WAITING_SIGN_S
            await self.send()

    async def _sign(self) -> Msg:
        """Anything from the point. Raises BusUnavailable."""
        for attempt in range(TRIES):
            message = await self._next_message(self._timeout_s / TRIES)
            if message is not None and message.headers and message.headers.get("Status") == _NOBODY:
                raise BusUnavailable(
                    f"point {point_of(self._subject)} is not connected to the bus; `dpd point list` shows when it was seen last"
                )
            if message is not None:
                return message
            if attempt < TRIES - 1:
                await self.send()
        raise BusUnavailable(f"point {point_of(self._subject)} gave no answer within {self._timeout_s:g} s; ask again")

    async def _next_message(self, timeout_s: float) -> Msg | None:
        came = asyncio.get_running_loop().create_task(self._came.get())
        broken = asyncio.get_running_loop().create_task(self._link.broken.wait())
        try:
            await asyncio.wait((came, broken), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if came.done():
                return came.result()
            if broken.done():
                raise BusUnavailable("the connection to the bus broke; what was asked may have been done: ask again")
            return None
        finally:
            came.cancel()
            broken.cancel()

    async def end(self) -> None:
        """Where the asker reads no more, the point need not go on."""
        if self._has_ended or self._link.broken.is_set():
            return
        with contextlib.suppress(Exception):  # it would stop for itself, a little later
            await self._link.publish(self._subject, encode(Ask(self._request.id, is_over=True)))
