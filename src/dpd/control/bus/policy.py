# SPDX-License-Identifier: Apache-2.0
"""The site's policy comes to this point: watched, checked, mirrored into the site store; what the store has goes on to boot
machines while the site is away.

The watch tells of changes at once. The site server's notice says again and again which policy holds: where it is the one held
here, the policy's age begins anew, and where it is not, the document is looked for. So age grows whenever the site server, the
hub or the line is away, whatever a leaf node's mirror still shows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpd.bus.connection import Tell, tell_nobody
from dpd.bus.documents import check_head, unpack_policy
from dpd.bus.link import Link
from dpd.bus.messages import Notice, PolicyHead, decode
from dpd.bus.subjects import POLICY_HEAD, Subjects, chunk_key
from dpd.bus.together import run_together
from dpd.bus.watch import Watch
from dpd.errors import BusError, DpdError
from dpd.site.model import SiteModel, decode_model
from dpd.site.records import SiteError
from dpd.site.store import SiteStore
from dpd.telemetry.stats import counter

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.js.kv import KeyValue

log = logging.getLogger(__name__)

LOOK_S = 60.0  # at the bucket, whatever the watch says


@dataclass(slots=True)
class FollowerStats:
    """What following the site's policy counted."""

    mirrored: int = counter("Policies of the site that were taken over")
    refused: int = counter("Policies of the site that were refused: damaged, older, or of another site")


class PolicyFollower:
    """`attend` is a work of the bus connection."""

    def __init__(
        self,
        store: SiteStore,
        site: str,
        *,
        tell: Tell = tell_nobody,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stats = FollowerStats()
        self.refusal = ""  # why the last document was refused
        self._store = store
        self._site = site
        self._subjects = Subjects(site)
        self._tell = tell
        self._clock = clock
        self._monotonic = monotonic
        self._wanted = asyncio.Event()
        self._held_sha256 = ""  # not known after a restart, until the document has been compared with what is held
        self._refused: tuple[int, str] = (0, "")  # the bucket's revision, and why
        held = store.authority
        is_held = held is not None and held.site == site
        # The wall clock tells only how old what a restart found is; from here on the monotonic one counts.
        age_s = max(0.0, clock() - held.at) if held is not None and is_held else 0.0
        self._heard_at = monotonic() - age_s

    @property
    def version(self) -> int:
        """Of the site's policy that is held here, 0 for none."""
        held = self._store.authority
        return held.version if held is not None and held.site == self._site else 0

    @property
    def age_s(self) -> float:
        """Since the site's word was last heard to hold, or, where it never was, since the start."""
        return self._monotonic() - self._heard_at

    async def attend(self, link: Link) -> None:
        """Until the link breaks."""
        async with (
            link.subscribed(self._subjects.notice, self._take_notice),
            link.watched(self._subjects.policy_bucket, POLICY_HEAD) as entries,
        ):
            await run_together(self._watch(entries), self._keep_looking(link))

    async def _keep_looking(self, link: Link) -> None:
        while True:
            self._wanted.clear()
            await self._look(link)
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    async def _watch(self, entries: Watch) -> None:
        async for entry in entries:
            if entry is not None:
                self._wanted.set()

    async def _take_notice(self, message: Msg) -> None:
        try:
            notice = decode(Notice, message.data)
        except BusError as error:
            log.warning("notice of the site is none", extra={"error": str(error)})
            return
        if (notice.version, notice.sha256) == (self.version, self._held_sha256):
            self._heard_at = self._monotonic()
        elif notice.version >= self.version:
            self._wanted.set()

    # ---- the document

    async def _look(self, link: Link) -> None:
        """Take over what is in the bucket, where it is newer."""
        from nats.js.errors import KeyNotFoundError

        bucket = await link.bucket(self._subjects.policy_bucket)
        while True:
            try:
                entry = await bucket.get(POLICY_HEAD)
            except KeyNotFoundError:
                return  # a site that has published nothing yet
            revision = entry.revision or 0
            if revision == self._refused[0]:
                return
            try:
                await self._take(bucket, entry.value)
                self._refused, self.refusal = (0, ""), ""
                return
            except BusError as error:
                if await self._has_moved_on(bucket, revision):
                    continue  # it was replaced while it was read
                self._refuse(revision, error)
                return
            except DpdError as error:  # the store may take it another time, such as when its disk has room again
                self._refuse(0, error)
                return

    async def _take(self, bucket: KeyValue, value: bytes | None) -> None:
        """Raises DpdError where it cannot be taken."""
        head = decode(PolicyHead, value)
        check_head(head, self._site)
        if (head.version, head.sha256) == (self.version, self._held_sha256):
            return
        if head.version < self.version:
            raise BusError(
                f"policy version {head.version} is older than version {self.version}, which is held here; was the site put back from a backup? Its server publishes above what is out when it starts"
            )
        model = await self._fetch(bucket, head)
        before = self.version, self._store.policy_version
        if not await asyncio.to_thread(self._store.mirror, self._site, head.version, model, self._clock()):
            raise BusError(f"policy version {head.version} is older than what is held here")
        self._held_sha256 = head.sha256
        if before == (self.version, self._store.policy_version):
            return  # what a restart found here; the site's next word tells that it holds
        self.stats.mirrored += 1
        self._heard_at = self._monotonic()
        log.info("policy of the site taken over", extra={"site": self._site, "version": head.version})
        self._tell("bus.policy_mirrored", site=self._site, policy_version=head.version)

    async def _fetch(self, bucket: KeyValue, head: PolicyHead) -> SiteModel:
        from nats.js.errors import KeyNotFoundError

        chunks = []
        for index in range(head.chunks):
            try:
                entry = await bucket.get(chunk_key(head.slot, index))
            except KeyNotFoundError:
                raise BusError(
                    f"policy version {head.version}: damaged: chunk {index} of {head.chunks} is missing"
                ) from None
            chunks.append(entry.value or b"")
        document = await asyncio.to_thread(unpack_policy, head, chunks)
        try:
            return await asyncio.to_thread(decode_model, document)
        except SiteError as error:
            raise BusError(
                f"policy version {head.version}: {error}; is this dpd older than the site server's?"
            ) from None

    async def _has_moved_on(self, bucket: KeyValue, revision: int) -> bool:
        from nats.js.errors import KeyNotFoundError

        try:
            return (await bucket.get(POLICY_HEAD)).revision != revision
        except KeyNotFoundError:
            return True

    def _refuse(self, revision: int, error: DpdError) -> None:
        """Once for each document and reason."""
        is_known = self._refused == (revision, str(error))
        self._refused, self.refusal = (revision, str(error)), str(error)
        if is_known:
            return
        self.stats.refused += 1
        log.error("policy of the site refused; what is held goes on", extra={"site": self._site, "held": self.version, "cause": str(error)})  # fmt: skip
        self._tell("bus.policy_refused", site=self._site, policy_version=self.version, error=str(error))
