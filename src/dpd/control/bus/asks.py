# SPDX-License-Identifier: Apache-2.0
"""What the site server asks of this point: each ask is done once, by the same API as at every other door, and answered in parts.

Theory of operation. An ask has an id. The first time it comes, it is done, in a task of its own that outlives the link; its parts
are kept in memory and sent as they come. When it comes again, because the asker lost a part, waited too long or follows
something that goes on, the parts behind `after` are sent once more, to the place that it names now. What changes anything is
written down before it is begun, so that not even a restart does it twice; what it came to may then be lost, and the asker is
told so. What only tells (GET) ends when its asker says so, or has not been heard of for a while.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
import time
from collections import OrderedDict
from collections.abc import Coroutine
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import msgspec

from dpd.bus.asking import LEASE_S, WAITING_SIGN_S
from dpd.bus.link import Link
from dpd.bus.messages import MAX_ASK_BYTES, PART_BYTES, Answer, Ask, decode, encode
from dpd.bus.stats import BusStats
from dpd.bus.subjects import SITE_SERVER, Subjects
from dpd.bus.together import end_all
from dpd.control.access.callers import Role
from dpd.control.api.messages.message import Failure, Refusal
from dpd.control.bus.door import BusDoor
from dpd.control.bus.memory import BusMemory
from dpd.errors import BusError, DpdError
from dpd.telemetry.stats import bump

if TYPE_CHECKING:
    from nats.aio.msg import Msg

log = logging.getLogger(__name__)

METHODS = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"
MAX_OPEN = 64  # asks that are being done
KEPT_FOR_OPERATORS = (
    16  # of them: whoever may look at the site's page could open streams until nothing else gets through
)
MAX_ASKERS = 3  # of one ask: the same one on another connection, or in another process
KEPT_S = 600.0  # an answer that is whole
KEPT_BYTES = 32 << 20  # of all answers that are whole
MAX_ANSWER_BYTES = 4 << 20  # of one answer that can be told again from its beginning
_FORWARDED = "Content-Type", "Retry-After", "Allow"
_T = TypeVar("_T")
_TEXTS = "application/json", "application/x-ndjson", "text/", "application/toml"


class _Given:
    """One ask, its parts so far, and where they go."""

    def __init__(self, ask: Ask, reply: str) -> None:
        self.ask = ask
        self.replies = [reply]  # the last ones that asked; an inbox that is gone takes nothing
        self.parts: list[Answer] = []
        self.first = 0  # the sequence of the oldest part that is kept
        self.bytes = 0
        self.heard_at = time.monotonic()
        self.is_whole = False
        self.task: asyncio.Task[None] | None = None

    @property
    def only_tells(self) -> bool:
        return self.ask.method in ("GET", "HEAD")

    @property
    def next(self) -> int:
        return self.first + len(self.parts)

    def add(self, part: Answer) -> None:
        self.parts.append(part)
        self.bytes += len(part.body)
        self.is_whole = part.is_last
        while self.bytes > MAX_ANSWER_BYTES and len(self.parts) > 1:
            self.bytes -= len(self.parts.pop(0).body)
            self.first += 1

    def after(self, sequence: int) -> list[Answer] | None:
        """None where they are not kept any more."""
        return None if sequence + 1 < self.first else self.parts[sequence + 1 - self.first :]


class AskDesk:
    """`attend` is a work of the bus connection; `run` does the asks, as long as dpd runs."""

    def __init__(self, door: BusDoor, memory: BusMemory, site: str, point: str, stats: BusStats) -> None:
        self._door = door
        self._memory = memory
        self._subject = Subjects(site).ask(point)
        self._askers = f"{Subjects(site).inbox(SITE_SERVER)}."
        self._stats = stats
        self._given: OrderedDict[str, _Given] = OrderedDict()
        self._link: Link | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled, which ends what is being done."""
        try:
            while True:
                await asyncio.sleep(WAITING_SIGN_S)
                self._end_what_nobody_follows()
                self._forget_old()
        finally:
            await end_all(self._tasks)

    async def attend(self, link: Link) -> None:
        """Take asks until the link breaks."""
        self._link = link
        try:
            async with link.subscribed(self._subject, self._take):
                await link.broken.wait()
        finally:
            self._link = None

    async def _take(self, message: Msg) -> None:
        try:
            ask = decode(Ask, message.data)
        except BusError as error:
            bump(self._stats.asks, "malformed")
            await self._send(message.reply, _refusal(HTTPStatus.BAD_REQUEST, "bad_request", str(error)))
            return
        if not ask.is_over and not message.reply.startswith(self._askers):
            # Whoever may make a consumer can have the NATS server deliver what he likes to where he may not publish, but the
            # reply of such a message is JetStream's own.
            bump(self._stats.asks, "stranger")
            log.warning("ask over the bus of nobody known", extra={"reply": message.reply[:100]})
            return
        given = self._given.get(ask.id)
        if ask.is_over:
            if given is not None:
                self._end(given)
        elif given is not None:
            await self._tell_again(given, ask, message.reply)
        else:
            await self._begin(ask, message.reply)

    # ---- again

    async def _tell_again(self, given: _Given, ask: Ask, reply: str) -> None:
        given.heard_at = time.monotonic()
        if reply not in given.replies:
            given.replies = [*given.replies, reply][-MAX_ASKERS:]
        parts = given.after(ask.after)
        if parts is None:
            gone = "this was done, and so much was told of it that its beginning is not kept; look what came of it"
            await self._send(reply, _refusal(HTTPStatus.GONE, "answer_not_kept", gone, ask.after + 1))
            return
        for part in parts:
            await self._send(reply, part)

    # ---- once

    async def _begin(self, ask: Ask, reply: str) -> None:
        if len(self._tasks) >= (MAX_OPEN - KEPT_FOR_OPERATORS if _only_looks(ask) else MAX_OPEN):
            bump(self._stats.asks, "busy")
            busy = f"{len(self._tasks)} requests over the bus are being done, as many as may; ask again"
            await self._send(reply, _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", busy))
            return
        given = self._given[ask.id] = _Given(ask, reply)
        given.task = asyncio.get_running_loop().create_task(self._do(given))
        self._tasks.add(given.task)
        given.task.add_done_callback(self._tasks.discard)

    async def _do(self, given: _Given) -> None:
        outcome = "done"
        try:
            await self._answer(given)
        except asyncio.CancelledError:
            outcome = "ended"
            raise
        except (DpdError, aiohttp.ClientError, OSError) as error:
            outcome = "refused"
            status = HTTPStatus.BAD_REQUEST if isinstance(error, DpdError) else HTTPStatus.BAD_GATEWAY
            await self._add(given, _refusal(status, "bus_refused", str(error), given.next))
        except Exception:
            outcome = "failed"
            log.exception("ask over the bus failed", extra={"method": given.ask.method, "target": given.ask.target})
            fault = "a fault inside dpd; its log has the details"
            await self._add(given, _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", fault, given.next))
        finally:
            bump(self._stats.asks, outcome)

    async def _answer(self, given: _Given) -> None:
        ask = given.ask
        if ask.method not in METHODS:
            raise BusError(f"method {ask.method[:20]!r}: expected one of {', '.join(METHODS)}")
        if len(ask.body) > MAX_ASK_BYTES:
            raise BusError(f"a body of more than {MAX_ASK_BYTES} bytes does not go over the bus")
        if ask.body and not _is_text(ask.content_type):
            raise BusError(
                "files do not go over the bus: publish it at the point itself, or have the point pull it (`dpd site content add`)"
            )
        if not given.only_tells and not await asyncio.to_thread(self._memory.begin_ask, ask.id):
            raise BusError("this was begun before dpd started anew, and is not done twice; look what came of it")
        response = await self._with_signs(given, self._door.request(ask))
        given.ask = msgspec.structs.replace(ask, body="")  # its answer is kept for long
        try:
            if not _is_text(response.content_type):
                raise BusError("this answer is a file, which does not go over the bus; ask the point by its own API")
            await self._pass_on(given, response)
        finally:
            response.close()

    async def _pass_on(self, given: _Given, response: aiohttp.ClientResponse) -> None:
        """A body of known length in as few parts as may be, any other piece by piece as it comes."""
        headers = {name: response.headers[name] for name in _FORWARDED if name in response.headers}
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        if response.content_length is not None:
            texts = _cut(decoder.decode(await response.read(), final=True)) or [""]
            last = len(texts) - 1
            for index, text in enumerate(texts):
                first = index == 0
                part = Answer(index, response.status if first else 0, headers if first else {}, text, index == last)
                await self._add(given, part)
            return
        await self._add(given, Answer(0, response.status, headers))
        while True:
            piece = await self._with_signs(given, response.content.readany())
            if not piece:
                break
            for text in _cut(decoder.decode(piece)):
                await self._add(given, Answer(given.next, body=text))
        await self._add(given, Answer(given.next, is_last=True))

    async def _with_signs(self, given: _Given, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for it, and let the asker know meanwhile that it goes on."""
        doing = asyncio.get_running_loop().create_task(work)
        try:
            while not (await asyncio.wait([doing], timeout=WAITING_SIGN_S))[0]:
                await self._send_all(given, Answer(given.next, is_waiting=True))
            return doing.result()
        finally:
            doing.cancel()

    async def _add(self, given: _Given, part: Answer) -> None:
        given.add(part)
        await self._send_all(given, part)

    async def _send_all(self, given: _Given, part: Answer) -> None:
        for reply in given.replies:
            await self._send(reply, part)

    async def _send(self, reply: str, part: Answer) -> None:
        """Lost where there is no link; the asker asks again."""
        link = self._link
        if link is None or not reply:
            return
        with suppress(Exception):  # the link has just broken
            await link.publish(reply, encode(part))

    # ---- ends

    def _end(self, given: _Given) -> None:
        """Its asker reads no more of it: what only tells stops, what changes anything goes on."""
        given.replies = []
        if given.only_tells and given.task is not None:
            given.task.cancel()
            self._given.pop(given.ask.id, None)

    def _end_what_nobody_follows(self) -> None:
        now = time.monotonic()
        for given in list(self._given.values()):
            if given.only_tells and not given.is_whole and now - given.heard_at > LEASE_S:
                self._end(given)

    def _forget_old(self) -> None:
        """Answers that are whole, the oldest first."""
        now = time.monotonic()
        whole = [given for given in self._given.values() if given.is_whole]
        total = sum(given.bytes for given in whole)
        for given in whole:
            if now - given.heard_at <= KEPT_S and total <= KEPT_BYTES:
                return
            total -= given.bytes
            del self._given[given.ask.id]


def _cut(text: str) -> list[str]:
    """A character is four bytes at most."""
    size = PART_BYTES // 4
    return [text[start : start + size] for start in range(0, len(text), size)]


def _only_looks(ask: Ask) -> bool:
    """What somebody asks who may do nothing else."""
    may_act = ask.caller is not None and ask.caller.role in (Role.OPERATOR, Role.ADMIN)
    return ask.method in ("GET", "HEAD") and not may_act


def _is_text(content_type: str) -> bool:
    return content_type.startswith(_TEXTS)


def _refusal(status: HTTPStatus, code: str, message: str, sequence: int = 0) -> Answer:
    """Behind parts of an answer that was begun, it is one more line."""
    body = msgspec.json.encode(Refusal(Failure(code, message))).decode()
    if sequence:
        return Answer(sequence, body=body + "\n", is_last=True, is_broken=True)
    return Answer(0, status, {"Content-Type": "application/json"}, body, is_last=True)
