# SPDX-License-Identifier: Apache-2.0
"""Required runs are the site's: what a machine was given at one point, no other point gives it again; what is cleared anywhere,
is cleared everywhere.

Theory of operation. Each run is a key of a bucket. Of two words about one run the weightier one holds (`SharedRun.weight`), so
all sides come to the same whatever the order, and however long they did not hear of each other. A run that is missing from a
store says nothing; that it was cleared is a word of its own, kept on disk until the bus has it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from dpd.bus.link import Link
from dpd.bus.messages import SharedRun, decode, encode
from dpd.bus.subjects import Subjects, run_key, run_of_key
from dpd.bus.together import run_together
from dpd.bus.watch import Entry, Watch
from dpd.control.bus.memory import BusMemory
from dpd.errors import BusError
from dpd.site.records import Run
from dpd.site.store import SiteStore
from dpd.telemetry.stats import counter

log = logging.getLogger(__name__)

LOOK_S = 1.0  # at the store, for runs that have changed here
AT_ONCE = 64  # puts that wait for JetStream, as in status.py

_Key: TypeAlias = tuple[int, str]


@dataclass(slots=True)
class RunStats:
    """What the sharing of runs counted."""

    told: int = counter("Runs of required deployments that were told to the site")
    heard: int = counter("Runs of required deployments that the site told of")


@dataclass(slots=True)
class _Steps:
    """What brings store and bus together."""

    puts: list[SharedRun] = field(default_factory=list)
    takes: list[Run] = field(default_factory=list)
    drops: list[_Key] = field(default_factory=list)
    heard_clears: list[SharedRun] = field(default_factory=list)


class SharedRuns:
    """`attend` is a work of the bus connection. `name`: who tells, a point or the site server. `is_mirror`: runs are shared
    only while the store's policy is this site's. `hub_domain` leads from a leaf node to the hub's bucket, since its own is a
    mirror."""

    def __init__(
        self, store: SiteStore, memory: BusMemory, site: str, name: str, *, is_mirror: bool, hub_domain: str = ""
    ) -> None:
        self.stats = RunStats()
        self._store = store
        self._memory = memory
        self._site = site
        self._name = name
        self._is_mirror = is_mirror
        self._bucket = Subjects(site).runs_bucket
        self._put_prefix = f"$JS.{hub_domain}.API." if hub_domain else ""
        self._on_bus: dict[_Key, SharedRun] = {}
        self._revisions: dict[str, int] = {}  # by the bucket's keys
        self._heard = asyncio.Event()
        self._cleared = memory.cleared()
        self._heard_clears: dict[_Key, SharedRun] = {}  # that memory on disk does not have yet
        store.runs.cleared_at = lambda deployment, machine: self._cleared.get((deployment, machine), 0.0)
        store.runs.before_clear = self._note_clears

    @property
    def _is_shared(self) -> bool:
        """The numbers of deployments mean the same here and in the site."""
        held = self._store.authority
        return not self._is_mirror or (held is not None and held.site == self._site)

    def _note_clears(self, runs: Sequence[Run]) -> None:
        if self._is_shared:
            self._memory.note_clears(runs)
            self._cleared |= {(run.deployment, run.machine): run.started_at for run in runs}

    async def attend(self, link: Link) -> None:
        """Until the link breaks."""
        self._on_bus, self._revisions = {}, {}
        async with link.watched(self._bucket) as entries:
            await self._hear_all(entries)
            await asyncio.to_thread(self._memory.keep_clears_of, list(self._store.deployments))
            await run_together(self._hear(entries), self._keep_together(link))

    async def _keep_together(self, link: Link) -> None:
        done: object = None
        while True:
            now = self._store.runs.revision, self._store.policy_version
            if self._heard.is_set() or done != now:
                self._heard.clear()
                await self._bring_together(link)
                done = now
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._heard.wait()
            except TimeoutError:
                pass

    # ---- the bus

    async def _hear_all(self, entries: Watch) -> None:
        """What there is, before anything is compared with it."""
        async for entry in entries:
            if entry is None:
                return
            self._note(entry)

    async def _hear(self, entries: Watch) -> None:
        async for entry in entries:
            if entry is not None:
                self._note(entry)
                self._heard.set()

    def _note(self, entry: Entry) -> None:
        self._revisions[entry.key] = entry.revision
        try:
            key = run_of_key(entry.key)
            run = None if entry.is_deleted else decode(SharedRun, entry.value)
            if run is not None and (run.deployment, run.machine) != key:
                raise BusError(f"it is of {run.machine[:63]!r}")
        except (BusError, ValueError) as error:
            log.warning("run on the bus is none", extra={"key": entry.key, "error": str(error)})
            return
        if run is None:  # the site has forgotten it with its deployment
            self._on_bus.pop(key, None)
            self._cleared.pop(key, None)
        else:
            self._on_bus[key] = run
            if run.is_cleared and self._cleared.get(key, 0.0) < run.started_at:
                self._cleared[key] = run.started_at
                self._heard_clears[key] = run

    async def _put(self, link: Link, run: SharedRun) -> None:
        """Where somebody was quicker, the watch will tell what it is now, and it is compared once more."""
        from nats.js.errors import APIError

        key = run_key(run.deployment, run.machine)
        subject = f"{self._put_prefix}$KV.{self._bucket}.{key}"
        try:
            revision = await link.replace(subject, encode(run), self._revisions.get(key, 0))
        except APIError as error:
            if error.err_code == WRONG_LAST_SEQUENCE:
                return
            raise
        self._revisions[key] = revision
        self._on_bus[run.deployment, run.machine] = run
        self.stats.told += 1
        if run.is_cleared:
            self._heard.set()  # the clear has been told: it is to be forgotten

    # ---- together

    async def _bring_together(self, link: Link) -> None:
        await self._keep_heard_clears()
        steps = await asyncio.to_thread(self._compare)
        await asyncio.to_thread(self._follow, steps)
        for start in range(0, len(steps.puts), AT_ONCE):
            await asyncio.gather(*(self._put(link, run) for run in steps.puts[start : start + AT_ONCE]))

    async def _keep_heard_clears(self) -> None:
        heard = dict(self._heard_clears)
        if heard:
            await asyncio.to_thread(self._memory.note_heard, list(heard.values()))
            self._heard_clears = {key: run for key, run in self._heard_clears.items() if heard.get(key) is not run}

    def _compare(self) -> _Steps:
        """What is to be done, by what store and bus have."""
        steps = _Steps()
        if not self._is_shared:
            return steps
        deployments = self._store.deployments
        own: dict[_Key, SharedRun] = {}
        for word in (*map(self._word_of, self._store.runs.all()), *self._memory.clears()):
            key = word.deployment, word.machine
            if key not in own or own[key].weight < word.weight:
                own[key] = word
        for key in own.keys() | self._on_bus.keys():
            if key[0] in deployments:
                self._judge(own.get(key), self._on_bus.get(key), steps)
        return steps

    def _judge(self, own: SharedRun | None, heard: SharedRun | None, steps: _Steps) -> None:
        if heard is None or (own is not None and own.weight > heard.weight):
            if own is not None:
                steps.puts.append(own)
            return
        if own is not None and own.is_cleared:
            steps.heard_clears.append(heard)
        key = heard.deployment, heard.machine
        is_here = self._store.runs.find(*key) is not None
        if heard.is_cleared and is_here:
            steps.drops.append(key)
        elif not heard.is_cleared and (own is None or own.weight < heard.weight):
            steps.takes.append(Run(*key, heard.mac, heard.started_at, heard.finished_at))

    def _word_of(self, run: Run) -> SharedRun:
        return SharedRun(run.deployment, run.machine, run.mac, run.started_at, run.finished_at, self._name)

    def _follow(self, steps: _Steps) -> None:
        """What was heard, into the store."""
        if steps.takes:
            self._store.runs.take(steps.takes)
        if steps.drops:
            self._store.runs.drop(steps.drops)
        if steps.heard_clears:
            self._memory.note_told(steps.heard_clears)
        self.stats.heard += len(steps.takes) + len(steps.drops)


WRONG_LAST_SEQUENCE = 10071  # JSStreamWrongLastSequenceErrF
