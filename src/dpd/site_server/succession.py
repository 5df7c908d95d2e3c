# SPDX-License-Identifier: Apache-2.0
"""One site server goes on where another one left off: with its model, what points are to hold, and its numbers.

A server that waits holds the policy that is on the bus, as a point does, so that it goes on with that and not with a model of
its own which may be older or none. What is not in the policy the server that steers hands down beside its lease. A model of its
own that points were never told is replaced by nobody: such a server says so, and does not take over.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import zlib
from collections.abc import Sequence
from dataclasses import replace

from msgspec import Struct

from dpd.bus.connection import Tell, tell_nobody
from dpd.bus.link import Link
from dpd.bus.messages import PolicyHead, decode, encode
from dpd.bus.subjects import ESTATE, POLICY_HEAD, Subjects
from dpd.control.bus.policy import PolicyFollower
from dpd.database import Database
from dpd.errors import BusError
from dpd.site.model import SiteModel, encode_model
from dpd.site.records import AffinityMode
from dpd.site.store import SiteStore
from dpd.site_server.assignments import Assignment, Assignments
from dpd.site_server.lease import SuccessionRefused

log = logging.getLogger(__name__)

LOOK_S = 2.0  # whether what kept from following has gone
MAX_ESTATE_BYTES = 64 << 20  # unpacked
ACTOR = "site server"


class Estate(Struct):
    """What a successor needs beside the policy; goes over the bus packed by zlib."""

    assignments: list[Assignment]
    last_deployment: int


class Succession:
    """`follow` is a work of the bus connection for a server that waits, `succeed` and `begin` are what its lease asks."""

    def __init__(
        self, store: SiteStore, database: Database, assignments: Assignments, site: str, *, tell: Tell = tell_nobody
    ) -> None:
        self._store = store
        self._database = database
        self._assignments = assignments
        self._site = site
        self._subjects = Subjects(site)
        self._tell = tell
        self._follower: PolicyFollower | None = None
        self._handed = b""
        self._out = self._fact_out()
        assignments.hand_down = self._hand_down

    # ---- while this server steers

    def note_out(self, sha256: str) -> None:
        """The model that is on the bus is this store's own, so nothing is lost with it."""
        if sha256 != self._out:
            self._out = sha256
            with self._database.transaction() as connection:
                connection.execute("INSERT OR REPLACE INTO facts VALUES ('out', ?)", (sha256,))

    def _fact_out(self) -> str:
        rows = self._database.rows("SELECT value FROM facts WHERE name = 'out'")
        return str(rows[0][0]) if rows else ""

    async def begin(self) -> None:
        """Policy is changed here from now on."""
        self._handed = b""
        held = self._store.authority
        if held is not None and held.site == self._site:
            await asyncio.to_thread(self._store.release, ACTOR)

    async def _hand_down(self, link: Link, assigned: Sequence[Assignment]) -> None:
        last = await asyncio.to_thread(lambda: self._store.last_deployment)
        packed = zlib.compress(encode(Estate(list(assigned), last)))
        if packed != self._handed:
            await (await link.bucket(self._subjects.site_bucket)).put(ESTATE, packed)
            self._handed = packed

    # ---- while another one does

    async def follow(self, link: Link) -> None:
        """Until it is cancelled: hold the policy that is on the bus, unless a model of this server's own would be lost."""
        while not await self._may_follow(link):  # noqa: ASYNC110 - nobody wakes us
            await asyncio.sleep(LOOK_S)
        self._follower = PolicyFollower(self._store, self._site, tell=self._tell)
        await self._follower.attend(link)

    async def _may_follow(self, link: Link) -> bool:
        head = await self._head(link)
        return head is not None and not await self._obstacle(head)

    async def succeed(self, link: Link) -> bool:
        """All that the server before had is here; False: not yet. Raises SuccessionRefused."""
        head = await self._head(link)
        if head is not None:
            if obstacle := await self._obstacle(head):
                raise SuccessionRefused(obstacle)
            held = self._store.authority
            is_here = held is not None and (held.site, held.version) == (self._site, head.version)
            if not is_here and await asyncio.to_thread(self._sha256) != head.sha256:
                if self._follower is not None and self._follower.refusal:
                    raise SuccessionRefused(self._follower.refusal)
                return False
        await self._inherit(link)
        return True

    async def _obstacle(self, head: PolicyHead | None) -> str:
        """Why this server's own model may not be replaced by the one on the bus."""
        held = self._store.authority
        if head is None or (held is not None and held.site == self._site):
            return ""
        known = self._out, head.sha256
        if await asyncio.to_thread(lambda: self._says_nothing() or self._sha256() in known):
            return ""
        return (
            f"this site server has a model of its own, which points of site {self._site} were never told. `dpd --site site export -f own.toml` keeps it;"
            " then stop this server, take site.db out of its state_dir and start it: it takes over with the policy that points have, and `dpd site apply` adds to that"
        )

    def _says_nothing(self) -> bool:
        """Save what the settings say."""
        return replace(self._store.model(), affinity_mode=AffinityMode.NONE) == SiteModel()

    def _sha256(self) -> str:
        return hashlib.sha256(encode_model(self._store.model())).hexdigest()

    async def _head(self, link: Link) -> PolicyHead | None:
        from nats.js.errors import NotFoundError

        try:
            entry = await (await link.bucket(self._subjects.policy_bucket)).get(POLICY_HEAD)
            return decode(PolicyHead, entry.value)
        except (NotFoundError, BusError):
            return None

    async def _inherit(self, link: Link) -> None:
        """Raises SuccessionRefused for what no dpd of this release hands down."""
        from nats.js.errors import NotFoundError

        try:
            entry = await (await link.bucket(self._subjects.site_bucket)).get(ESTATE)
        except NotFoundError:
            raise SuccessionRefused(
                "the site server before has not handed down what points are to hold; start it once more, or delete the key "
                f'"lease" of bucket {self._subjects.site_bucket} if points are to hold what this one says'
            ) from None
        try:
            estate = decode(Estate, zlib.decompressobj().decompress(entry.value or b"", MAX_ESTATE_BYTES))
        except (zlib.error, BusError) as error:
            raise SuccessionRefused(
                f"what points are to hold cannot be taken over: {error}; is the site server before of a newer dpd?"
            ) from None
        await asyncio.to_thread(self._assignments.replace_all, estate.assignments)
        await asyncio.to_thread(self._store.skip_deployments, estate.last_deployment)
        log.info("taken over from the site server before", extra={"site": self._site, "assignments": len(estate.assignments)})  # fmt: skip
