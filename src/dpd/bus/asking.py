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
AHEAD_BYTES = 8 << 20  # of parts that came and were not read yet; what comes beyond is let go of, and asked for again
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
        self._ahead_bytes = 0
        self._next = request.after + 1
        self._has_ended = False
        self._asked_again_at = 0.0
        self._sent = 0
        self._renew_at = 0.0

    async def take(self, message: Msg) -> None:
        """What nobody reads must not fill the memory."""
        if self._ahead_bytes <= AHEAD_BYTES:
            self._ahead_bytes += len(message.data)
            self._came.put_nowait(message)

    async def send(self) -> None:
        self._renew_at = time.monotonic() + LEASE_S / 3
        request = msgspec.structs.replace(self._request, after=self._next - 1)
        await self._link.publish(self._subject, encode(request), reply=self.inbox)
        self._sent += 1

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
                longer = "no longer" if self._sent > 1 else "not"
                said = f"point {point_of(self._subject)} is {longer} connected to the bus; `dpd point list` shows when it was seen last"
                raise BusUnavailable(f"{said}. {self._outcome}" if self._sent > 1 else said)
            if message is not None:
                return message
            if attempt < TRIES - 1:
                await self.send()
        raise BusUnavailable(
            f"point {point_of(self._subject)} gave no answer within {self._timeout_s:g} s. {self._outcome}"
        )

    @property
    def _outcome(self) -> str:
        """What is to be said where the end of it was not heard."""
        if self._request.method in ("GET", "HEAD"):
            return "Ask again"
        return "What was asked may have been done there: look before you ask again"

    async def _next_message(self, timeout_s: float) -> Msg | None:
        came = asyncio.get_running_loop().create_task(self._came.get())
        broken = asyncio.get_running_loop().create_task(self._link.broken.wait())
        try:
            await asyncio.wait((came, broken), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if came.done():
                message = came.result()
                self._ahead_bytes -= len(message.data)
                return message
            if broken.done():
                raise BusUnavailable(f"the connection to the bus broke. {self._outcome}")
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
