# SPDX-License-Identifier: Apache-2.0
"""The connection to the NATS server: made again for ever, each time anew.

nats-py could reconnect by itself, but closes for good where a server refuses it once, and its watches do not survive every
restart. So each connection is a `Link` of its own: whoever works with it is called with it, and cancelled when it breaks. What
is not acknowledged by then is done again on the next one, from the state on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias

from dpd.bus.link import Link
from dpd.bus.stats import BusStats
from dpd.bus.subjects import SITE_SERVER, Subjects
from dpd.bus.together import end_all, run_together
from dpd.bus.trust import client_tls, demands_tls, read_secrets
from dpd.bus_settings import BusSettings
from dpd.errors import BusUnavailable, DpdError, SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.client import Client

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
PING_INTERVAL_S, PINGS_UNANSWERED = 10, 2  # a cut line that says nothing is noticed after half a minute
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
RETELL_S = 600.0  # the same trouble is told again after so long
WORK_PAUSE_S, LONGEST_WORK_PAUSE_S = 1.0, 15.0  # before work that failed on a good link begins again

Work: TypeAlias = Callable[[Link], Awaitable[None]]


class Tell(Protocol):
    """Takes an event and its fields, as EventLog.note does."""

    def __call__(self, event: str, **fields: str | int | float | bool) -> object: ...


def tell_nobody(event: str, **fields: str | int | float | bool) -> None:
    """Where nobody is to hear of it."""


class BusConnection:
    """One process's connection. `link` is None while there is none; `name` is what the server lists it under."""

    def __init__(self, settings: BusSettings, *, name: str, who: str = SITE_SERVER, tell: Tell = tell_nobody) -> None:
        """`who`: the point, or the site server. `tell` hears of connections made and lost, as events. Raises SettingsError where nats-py or a file that the settings name is missing."""
        check_bus(settings)
        self._settings = settings
        self._name = name
        self._domain = settings.domain
        self._inbox = Subjects(settings.site).inbox(who)
        self._tell_event = tell
        self.stats = BusStats()
        self.link: Link | None = None
        self.since = 0.0  # when the link was made, or lost
        self.trouble = "not connected yet"  # why there is no link, in words
        self.connected = asyncio.Event()
        self._told = ("", 0.0)
        self._told_of: dict[str, tuple[str, float]] = {}  # by work

    async def run(self, works: Sequence[Work]) -> None:
        """Connect, and do all the works while the link lasts; for ever. A work that returns is done for this link, one that
        fails is begun again. Ends by being cancelled."""
        await run_together(self._run(works))

    async def _run(self, works: Sequence[Work]) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with self._linked() as link:
                    pause_s = FIRST_PAUSE_S
                    await self._work(link, works)
            except DpdError as error:
                self._tell(str(error))
            except Exception as error:  # whatever nats-py, ssl or the network raise
                self._tell(explain(error))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _work(self, link: Link, works: Sequence[Work]) -> None:
        """Until the link breaks."""
        loop = asyncio.get_running_loop()
        running = [loop.create_task(self._keep_working(link, work)) for work in works]
        try:
            await link.broken.wait()
        finally:
            await end_all(running)

    async def _keep_working(self, link: Link, work: Work) -> None:
        pause_s = WORK_PAUSE_S
        while True:
            began_at = time.monotonic()
            try:
                await work(link)
                return
            except Exception as error:
                if link.broken.is_set():
                    return
                self.stats.failures += 1
                self._tell_failure(_name_of(work), _reason(error, link))
            if time.monotonic() - began_at > RETELL_S:
                pause_s = WORK_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_WORK_PAUSE_S)

    def _tell_failure(self, work: str, reason: str) -> None:
        """Once for each reason, and again after a while."""
        now = time.monotonic()
        told, at = self._told_of.get(work, ("", 0.0))
        if told != reason or now - at >= RETELL_S:
            self._told_of[work] = reason, now
            log.warning("work on the bus failed and is begun again", extra={"work": work, "cause": reason})

    @asynccontextmanager
    async def _linked(self) -> AsyncIterator[Link]:
        from dpd.bus.client import make_client

        link = Link()
        client = make_client(must_be_tls=demands_tls(self._settings))

        try:
            await self._connect(client, link)
            link.attach(client, self._domain, self.stats)
            self._note_connected(link)
            yield link
        finally:
            is_lost = self.link is not None and link.broken.is_set()
            self.link = None
            self.connected.clear()
            self.stats.connected = 0
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.close(), CONNECT_TIMEOUT_S)
            if is_lost:
                self.since = time.time()
                reason = link.last_error or "the server closed the connection"
                self._tell(reason)
                self._tell_event("bus.lost", cause=reason)

    async def _connect(self, client: Client, link: Link) -> None:
        """Raises BusUnavailable, or whatever nats-py, ssl or the network raise."""
        from nats.errors import NoServersError, UnexpectedEOF

        async def closed() -> None:
            link.broken.set()

        async def erred(error: Exception) -> None:
            link.last_error = explain(error)

        try:
            await client.connect(
                self._settings.url,
                name=self._name,
                inbox_prefix=self._inbox,
                tls=client_tls(self._settings),
                allow_reconnect=False,
                max_reconnect_attempts=1,  # or a server that is away would be tried sixty times in there
                reconnect_time_wait=0,
                connect_timeout=CONNECT_TIMEOUT_S,  # type: ignore[arg-type]
                ping_interval=PING_INTERVAL_S,
                max_outstanding_pings=PINGS_UNANSWERED,
                closed_cb=closed,
                disconnected_cb=closed,
                error_cb=erred,
                **read_secrets(self._settings),
            )
        except NoServersError:  # which does not say why
            raise BusUnavailable(link.last_error or "no server answers there") from None
        except (ConnectionResetError, BrokenPipeError, UnexpectedEOF) as error:
            if not demands_tls(self._settings):
                raise
            # With TLS 1.3 our side is ready before the server has judged us, and its alert may come too late to be read.
            raise BusUnavailable(
                f"the server ended the connection ({explain(error)}); if it wants a client certificate, look at bus.certificate and bus.private_key"
            ) from None

    def _note_connected(self, link: Link) -> None:
        self.link, self.since, self.trouble = link, time.time(), ""
        self.stats.connected = 1
        self.stats.connections += 1
        self._told = ("", 0.0)
        log.info("bus connected", extra={"server": link.server, "url": self._settings.url, "as": self._name})
        self._tell_event("bus.connected", server=link.server)
        self.connected.set()

    def _tell(self, reason: str) -> None:
        """Once for each reason, and again after a while."""
        self.trouble = reason
        now = time.monotonic()
        if self._told[0] != reason or now - self._told[1] >= RETELL_S:
            self._told = reason, now
            log.warning("no connection to the bus; dpd serves on and keeps trying", extra={"url": self._settings.url, "cause": reason})  # fmt: skip


def check_bus(settings: BusSettings) -> None:
    """Whether a connection can be tried at all. Raises SettingsError where nats-py, or a file that the settings name, is missing."""
    if importlib.util.find_spec("nats") is None:
        raise SettingsError(
            f'bus.url = "{settings.url}": needs nats-py, which is not installed; `pip install "dpd[bus]"` in dpd\'s environment brings it, bus.url = "" does without'
        )
    _ = client_tls(settings), read_secrets(settings)


def explain(error: BaseException) -> str:
    """An error of nats-py, ssl or the network in one line, with the next step where there is one."""
    if isinstance(error, BaseExceptionGroup):
        return explain(error.exceptions[0])
    text = " ".join(str(error).split()) or type(error).__name__
    lower = text.lower()
    if "authorization violation" in lower or "authentication" in lower:
        return "the server refuses dpd's credentials; look at bus.credentials_file, bus.token_file or bus.certificate, and at the server's authorization"
    if "permissions violation" in lower:
        return f"the server forbids it: {text}; see the permissions in docs/site.md"
    if "certificate verify failed" in lower:
        return f"the server's certificate is not trusted ({text}); bus.ca_file names its authority"
    if "alert" in lower and ("certificate" in lower or "bad_certificate" in lower):
        return f"the server refuses dpd's certificate ({text}); look at bus.certificate and bus.private_key"
    if isinstance(error, TimeoutError):
        return "the server does not answer in time"
    return text


def _reason(error: Exception, link: Link) -> str:
    """A request that the server forbids gets no answer; what it says of it comes by another way."""
    said, link.last_error = link.last_error, ""
    if isinstance(error, TimeoutError) and said:
        return said
    return str(error) if isinstance(error, DpdError) else explain(error)


def _name_of(work: Work) -> str:
    return str(getattr(work, "__qualname__", type(work).__name__))
