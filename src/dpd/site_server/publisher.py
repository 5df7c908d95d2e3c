# SPDX-License-Identifier: Apache-2.0
"""The site's model as points get it: put into the policy's bucket at each change, and told to hold again and again.

A version is never given to two models. Where the bucket or a point knows a higher version than the store, which happens when the
store was put back from a backup, the next one goes on above it: points ignore what is older than what they hold.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from dpd.bus.documents import SLOTS, check_head, pack_policy, unpack_policy
from dpd.bus.link import Link
from dpd.bus.messages import Notice, PolicyHead, decode, encode
from dpd.bus.subjects import POLICY_HEAD, Subjects, chunk_key
from dpd.errors import BusError
from dpd.site.model import SiteModel, encode_model
from dpd.site.store import SiteStore
from dpd.telemetry.stats import counter, gauge

log = logging.getLogger(__name__)

NOTICE_S = 10.0  # how often the site says that its word holds
MAX_AHEAD = 1_000_000_000  # of a version that a point says it holds
LOOK_S = 1.0  # at the version, where nobody told of a change


@dataclass(slots=True)
class PublisherStats:
    """What the publisher counted."""

    version: int = gauge("Version of the policy that points are told")
    bytes: int = gauge("Size of that policy, as JSON")
    published: int = counter("Policies put on the bus")


async def _may(link: Link) -> None:
    """Where nobody else could publish."""


class Publisher:
    """`publish` and `keep_saying` are works of the bus connection. `told` is called after each publication, `note_out` with the
    hash of a model that is on the bus; `confirm` raises where this server may not publish."""

    def __init__(
        self,
        store: SiteStore,
        site: str,
        *,
        held: Callable[[], int] = lambda: 0,
        told: Callable[[PolicyHead], None] = lambda head: None,
        note_out: Callable[[str], None] = lambda sha256: None,
        confirm: Callable[[Link], Awaitable[None]] = _may,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.stats = PublisherStats()
        self.head: PolicyHead | None = None  # what the bucket has, as far as is known
        self._store = store
        self._subjects = Subjects(site)
        self._held = held  # the highest version that a point is known to hold
        self._told = told
        self._note_out = note_out
        self._confirm = confirm
        self._clock = clock
        self._changed = asyncio.Event()
        self._published = asyncio.Condition()
        self._out = -1  # the store's version that was published last

    @property
    def version(self) -> int:
        """Of the policy that points are told, 0 for none yet."""
        return self.head.version if self.head is not None else 0

    @property
    def is_up_to_date(self) -> bool:
        """Whether what the store has now is on the bus."""
        return self._out == self._store.policy_version

    def wake(self) -> None:
        """The model may have changed."""
        self._changed.set()

    async def wait_published(self, timeout_s: float) -> bool:
        """Until what the store has now is on the bus. False: it is not within that time."""
        version = self._store.policy_version
        self.wake()
        try:
            async with asyncio.timeout(timeout_s), self._published:
                await self._published.wait_for(lambda: self._out >= version)
        except TimeoutError:
            return False
        return True

    async def publish(self, link: Link) -> None:
        """Until the link breaks: each change."""
        try:
            await self._keep_putting(link)
        finally:
            self._out = -1  # nobody can tell what the next link will find

    async def _keep_putting(self, link: Link) -> None:
        self.head = await self._read_head(link)
        while True:
            self._changed.clear()
            version = self._store.policy_version
            if version != self._out or self._is_overtaken:
                await self._put(link)
                async with self._published:
                    self._out = version
                    self._published.notify_all()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def keep_saying(self, link: Link) -> None:
        """Until the link breaks: that the policy holds."""
        while True:
            await self._say(link)
            await asyncio.sleep(NOTICE_S)

    async def _put(self, link: Link) -> None:
        said = await asyncio.to_thread(self._store.model)
        before = self.head
        if before is None and said == SiteModel():
            return  # a site that has said nothing yet takes nothing away from points that have a policy of their own
        model = await asyncio.to_thread(encode_model, said)
        is_out = before is not None and before.sha256 == hashlib.sha256(model).hexdigest()
        if before is not None and is_out and not self._is_overtaken:
            self._note_out(before.sha256)
            return
        version = max(self._store.policy_version, max(self.version, self._held_version) + 1)
        slot = (before.slot + 1) % SLOTS if before is not None else 0
        head, chunks = await asyncio.to_thread(
            pack_policy, self._subjects.site, version, model, at=self._clock(), slot=slot
        )
        bucket = await link.bucket(self._subjects.policy_bucket)
        await self._confirm(link)  # a host that stood still for a while may not know yet
        for index, chunk in enumerate(chunks):
            await bucket.put(chunk_key(slot, index), chunk)
        await self._confirm(link)
        await bucket.put(POLICY_HEAD, encode(head))
        self.head = head
        self.stats.version, self.stats.bytes = head.version, head.size_bytes
        self.stats.published += 1
        self._note_out(head.sha256)
        self._told(head)
        await self._say(link)

    @property
    def _held_version(self) -> int:
        """A number that no site comes to in its life is a lie, which would use all numbers up."""
        held = self._held()
        return held if held <= self._store.policy_version + MAX_AHEAD else 0

    @property
    def _is_overtaken(self) -> bool:
        """A point holds what this site has no knowledge of, and takes nothing up to there."""
        return self.head is not None and self._held_version > self.head.version

    async def _say(self, link: Link) -> None:
        head = self.head
        if head is not None:
            await link.publish(self._subjects.notice, encode(Notice(head.version, head.sha256, self._clock())))

    async def _read_head(self, link: Link) -> PolicyHead | None:
        """What the bucket has; None where it has nothing of use."""
        from nats.js.errors import KeyNotFoundError

        bucket = await link.bucket(self._subjects.policy_bucket)
        try:
            entry = await bucket.get(POLICY_HEAD)
            head = decode(PolicyHead, entry.value)
            check_head(head, self._subjects.site)
        except KeyNotFoundError:
            return None
        except BusError as error:
            log.warning("head of the policy on the bus put anew", extra={"error": str(error)})
            return None
        self.stats.version, self.stats.bytes = head.version, head.size_bytes
        try:
            chunks = [(await bucket.get(chunk_key(head.slot, index))).value or b"" for index in range(head.chunks)]
            await asyncio.to_thread(unpack_policy, head, chunks)
        except (KeyNotFoundError, BusError) as error:
            log.warning(
                "policy on the bus is damaged and put anew", extra={"version": head.version, "error": str(error)}
            )
            return msgspec.structs.replace(head, sha256="")
        return head
