# SPDX-License-Identifier: Apache-2.0
"""The site's side of the bus, as far as a test of a point needs it: the layout at the hub, policies, notices, asks, and all
status messages that are at the hub."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self

from dpd.bus.asking import ask
from dpd.bus.connection import BusConnection
from dpd.bus.documents import pack_policy
from dpd.bus.link import Link
from dpd.bus.messages import Ask, BusCaller, Desired, Hello, Notice, PolicyHead, SharedRun, StatusReport, decode, encode
from dpd.bus.subjects import POLICY_HEAD, Subjects, chunk_key, run_of_key
from dpd.bus_settings import BusSettings, SiteSettings
from dpd.settings import Settings
from dpd.site.model import SiteModel, encode_model
from dpd.site_server.layout import ensure_layout

SITE = "lab"
PATIENCE_S = 30.0
CALLER = BusCaller("anna", "admin")


class SiteSide:
    """Used by `async with`; connected when that begins, and again whenever the hub is back."""

    def __init__(self, url: str, *, leaf_domains: tuple[str, ...] = (), **settings: str) -> None:
        bus = BusSettings(url=url, site=SITE, **settings)  # type: ignore[arg-type]
        self.subjects = Subjects(SITE)
        self.hellos: list[Hello] = []
        self.version = 0
        self._settings = Settings(bus=bus, site=SiteSettings(leaf_domains=leaf_domains))
        self._connection = BusConnection(bus, name="test site")
        self._head: PolicyHead | None = None
        self._is_laid_out = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._running = self._tasks.create_task(self._connection.run([self._lay_out, self._hear]))
        await self.linked()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._running.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def linked(self) -> Link:
        """The link, as soon as there is one, with everything made at the hub."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await self._connection.connected.wait()
                await self._is_laid_out.wait()
                link = self._connection.link
                if link is not None:
                    return link
                await asyncio.sleep(0.05)

    async def _lay_out(self, link: Link) -> None:
        await ensure_layout(link, self._settings)
        self._is_laid_out.set()

    async def _hear(self, link: Link) -> None:
        async def take(message: object) -> None:
            self.hellos.append(decode(Hello, message.data))  # type: ignore[attr-defined]

        async with link.subscribed(self.subjects.hello("*"), take):
            await link.broken.wait()

    # ---- policy

    async def publish(self, model: SiteModel, version: int) -> PolicyHead:
        """As the site server does: chunks, head, notice."""
        slot = 1 - self._head.slot if self._head is not None else 0
        head, chunks = pack_policy(SITE, version, encode_model(model), at=time.time(), slot=slot)
        for index, chunk in enumerate(chunks):
            await self.put(self.subjects.policy_bucket, chunk_key(slot, index), chunk)
        await self.put(self.subjects.policy_bucket, POLICY_HEAD, encode(head))
        self._head, self.version = head, version
        await self.notice()
        return head

    async def notice(self) -> None:
        link = await self.linked()
        sha256 = self._head.sha256 if self._head is not None else ""
        await link.publish(self.subjects.notice, encode(Notice(self.version, sha256, time.time())))

    async def put(self, bucket: str, key: str, value: bytes) -> None:
        link = await self.linked()
        await (await link.bucket(bucket)).put(key, value)

    async def desire(self, point: str, desired: Desired) -> None:
        await self.put(self.subjects.desired_bucket, point, encode(desired))

    # ---- asks

    async def ask(
        self,
        point: str,
        method: str,
        target: str,
        body: str = "",
        *,
        id: str = "",
        caller: BusCaller = CALLER,
        content_type: str = "application/json",
    ) -> tuple[int, str]:
        """Status and body."""
        request = Ask(id or secrets.token_hex(8), method, target, body, content_type, caller)
        link = await self.linked()
        parts = [part async for part in ask(link, self.subjects.ask(point), request, timeout_s=PATIENCE_S)]
        return parts[0].status, "".join(part.body for part in parts)

    # ---- what came

    async def statuses(self) -> list[StatusReport]:
        """All that the hub's stream has, in its order, also what came twice."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                link = await self.linked()
                reading = asyncio.get_running_loop().create_task(self._read_statuses(link))
                breaking = asyncio.get_running_loop().create_task(link.broken.wait())
                await asyncio.wait((reading, breaking), return_when=asyncio.FIRST_COMPLETED)
                breaking.cancel()
                if not link.broken.is_set():
                    return await reading
                reading.cancel()

    async def _read_statuses(self, link: Link) -> list[StatusReport]:
        info = await link.jetstream.stream_info(self.subjects.status_stream)
        found = []
        for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
            message = await link.jetstream.get_msg(self.subjects.status_stream, seq=sequence)
            found.append(decode(StatusReport, message.data))
        return found

    async def runs(self) -> dict[tuple[int, str], SharedRun]:
        """The bucket of runs."""
        link = await self.linked()
        found: dict[tuple[int, str], SharedRun] = {}
        async with link.watched(self.subjects.runs_bucket) as entries:
            async for entry in entries:
                if entry is None:
                    return found
                found[run_of_key(entry.key)] = decode(SharedRun, entry.value)
        return found


async def until(look: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """What `look`, which may be a coroutine, finds, as soon as it finds anything."""
    deadline = time.monotonic() + patience_s
    while True:
        found = look()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {patience_s} s: {what}"
        await asyncio.sleep(0.05)
