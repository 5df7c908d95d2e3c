# SPDX-License-Identifier: Apache-2.0
"""The story of each machine's boots, in memory and bounded: what it asked, what it was told, what it fetched.

DHCP knows machines by MAC, TFTP and HTTP by address; `bind` joins the two. What goes first when room is short is the
machine that was silent the longest, so a flood of invented MACs costs history and never memory.

The events, a closed set, and their fields:

discover, boot_request   what was asked on port 67 (547) and on 4011: xid, client_class, client_arch, guid, relay, secs, profile,
                         family (4 or 6), address
decision                 what policy said: outcome, cause, computer, deployment, boot_image; code, of who is to wait
offer, boot_reply        what was answered: rule, loader, destination, server, flow (direct, binl, bare)
ignored                  why nothing was answered: reason, detail; lease_request: address, lease_server
ticket                   id, boot_image, expires_in_s
tftp, http               one transfer: file, verdict (tftp) or step (http), detail, bytes, blksize, windowsize, retransmits, answered,
                         sha256 (of loaders)
image_fetched            the machine has all of its boot image: file, the last of it
refused_file             file, reason: no_ticket, ticket_expired, other_image, bad_name, chain_broken; detail
loader_fault             a loader that is served and will not start: file, detail; before its tftp or http event
loader_fault             why a loader that is asked for cannot start everywhere: file, detail
send_failed              destination
approval                 state: pending, approved, denied; by
foreign_offer            another server's answer to this machine: server, flags (file, next_server, option60, proxy, lease), loader
wire_request             a TFTP request of this machine that reached the network card: file, server
target                   the booted machine asked for its task sequence: step (hello, refused, taken), offers, reason, detail, sequence,
                         version, execution
conflict                 kind: duplicate_guid (guid, others)
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

EVENTS_PER_MACHINE = 64  # some five boots; entries as well, of which each has one event or a few
EVENTS_PER_CAPACITY = 8  # mean room for each machine when all are there: about 13 MB in all at the default capacity
MACS_PER_GUID = 8
RELAYS = 256
QUESTIONS = ("discover", "boot_request")  # they tell who asks and by which relay

_T = TypeVar("_T")
Fields = dict[str, str | int]
Tell = Callable[[Any], Fields]


@dataclass(frozen=True, slots=True)
class BootEvent:
    """One step. `at` is seconds since the epoch."""

    at: float
    event: str
    fields: Fields = field(default_factory=dict)


class Entry:
    """What is kept of a question and what came of it at once: for each step the event, the values and how they become fields,
    which is done for who reads the story. Three events with their fields, made at once, were 6 us of 35 of an answer.
    """

    __slots__ = ("at", "steps")

    def __init__(self, at: float, *step: Any) -> None:
        self.at = at
        self.steps: tuple[Any, ...] = step

    def __len__(self) -> int:
        return len(self.steps) // 3

    def events(self) -> Iterator[BootEvent]:
        """Its steps, oldest first."""
        steps = iter(self.steps)
        for event, values, tell in zip(steps, steps, steps, strict=True):
            yield BootEvent(self.at, event, tell(values))


class _Story(deque[Entry]):
    """The last entries of one machine."""

    dropped = 0  # events that came before


class BootJournal:
    """Stories of at most `capacity` machines; safe to use from any thread. MACs are lower-case aa:bb:cc:dd:ee:ff."""

    def __init__(self, capacity: int = 4096, *, clock: Callable[[], float] = time.time) -> None:
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._stories: OrderedDict[str, _Story] = OrderedDict()  # the machine heard of last stands last
        self._macs: OrderedDict[str, str] = OrderedDict()  # by address
        self._event_count = 0
        self._macs_by_guid: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._relays: OrderedDict[str, float] = OrderedDict()
        self._on_duplicate: Callable[[], None] = lambda: None
        self._touched: set[str] | None = None  # machines with something new, where somebody watches
        self._on_news: Callable[[], None] = lambda: None

    def note(self, mac: str, event: str, **fields: str | int) -> None:
        """Add a step to a machine's story."""
        with self._lock:
            self._note(mac, event, fields)

    def note_question(self, mac: str, event: str, values: Any, tell: Tell, *, guid: str = "", relay: str = "") -> Entry:
        """Add a question, whose fields `tell` makes of the values when somebody reads; for `go_on`."""
        with self._lock:
            now = self._clock()
            entry = Entry(now, event, values, tell)
            self._add(mac, entry)
            self._note_identity(mac, guid, relay, now)
            return entry

    def go_on(self, mac: str, entry: Entry | None, event: str, values: Any, tell: Tell) -> None:
        """Add a step that follows at once from what the entry has; behind what else was noted in between."""
        with self._lock:
            story = self._stories.get(mac)
            if entry is not None and story and story[-1] is entry:
                entry.steps += (event, values, tell)
                self._event_count += 1
                self._touch(mac)
            else:
                self._add(mac, Entry(self._clock(), event, values, tell))

    def bind(self, address: str, mac: str) -> None:
        """From now on this address is that machine's."""
        with self._lock:
            _keep(self._macs, address, mac, self._capacity)

    def note_address(self, address: str, event: str, **fields: str | int) -> None:
        """Add a step to the story of the machine that has this address; nothing happens where none is known."""
        with self._lock:
            mac = self._macs.get(address)
            if mac is not None:
                self._note(mac, event, fields)

    def story(self, mac: str) -> list[BootEvent]:
        """The steps of one machine, oldest first; empty where it is unknown."""
        return self.chapter(mac)[1]

    def chapter(self, mac: str) -> tuple[int, list[BootEvent]]:
        """The story, behind the number of events that came before it; so that who reads on knows what is new, whatever became
        of the clock."""
        with self._lock:
            story = self._stories.get(mac)
            if story is None:
                return 0, []
            before, entries = story.dropped, list(story)
        events = [event for entry in entries for event in entry.events()]
        return before + max(0, len(events) - EVENTS_PER_MACHINE), events[-EVENTS_PER_MACHINE:]

    def machines(self) -> list[str]:
        """Every machine with a story, the one heard of last at the end."""
        with self._lock:
            return list(self._stories)

    def find(self, guid: str) -> list[str]:
        """MACs of the machines that told this GUID, the one heard of last at the end."""
        with self._lock:
            return list(self._macs_by_guid.get(guid, ()))

    def relays(self) -> dict[str, float]:
        """When each relay last passed a question on; at most RELAYS of them, the one heard of last at the end."""
        with self._lock:
            return dict(self._relays)

    def owner_of(self, address: str) -> str:
        """The machine that has an address, "" where none is known."""
        with self._lock:
            return self._macs.get(address, "")

    def address_of(self, mac: str) -> str:
        """The address at which a machine was seen last, "" where at none."""
        with self._lock:
            return next((address for address, owner in reversed(self._macs.items()) if owner == mac), "")

    def watch_duplicates(self, on_duplicate: Callable[[], None]) -> None:
        """Have each further MAC of a GUID told. The callback must not come back to the journal."""
        self._on_duplicate = on_duplicate

    def watch(self, on_news: Callable[[], None]) -> None:
        """From now on remember which machines have something new, for one watcher, who is told when the first has. The callback
        is called under the lock, by whoever notes: it must be quick and not come back to the journal."""
        with self._lock:
            self._touched, self._on_news = set(), on_news

    def take_touched(self) -> list[str]:
        """The machines that have something new since this was asked before."""
        with self._lock:
            touched = list(self._touched or ())
            if self._touched is not None:
                self._touched = set()
            return touched

    def _touch(self, mac: str) -> None:
        touched = self._touched
        if touched is not None:
            if not touched:
                self._on_news()
            touched.add(mac)

    def _note(self, mac: str, event: str, fields: Fields) -> None:
        now = self._clock()
        self._add(mac, Entry(now, event, fields, _as_they_are))
        if event in QUESTIONS:
            self._note_identity(mac, str(fields.get("guid", "")), str(fields.get("relay", "")), now)

    def _note_identity(self, mac: str, guid: str, relay: str, now: float) -> None:
        """Who asks and by which relay is looked for in questions alone."""
        if relay:
            _keep(self._relays, relay, now, RELAYS)
        if guid:
            self._note_guid(mac, guid, now)

    def _note_guid(self, mac: str, guid: str, now: float) -> None:
        """Two MACs with one GUID may be one machine with two cards, or two boards whose maker gave both the same."""
        known = self._macs_by_guid.get(guid, ())
        if known and known[-1] == mac:
            self._macs_by_guid.move_to_end(guid)
            return
        others = tuple(other for other in known if other != mac)
        _keep(self._macs_by_guid, guid, (*others, mac)[-MACS_PER_GUID:], self._capacity)
        if mac in known or not others:
            return
        self._on_duplicate()
        self._add_conflict(mac, guid, " ".join(others), now)
        for other in others:
            self._add_conflict(other, guid, mac, now)

    def _add_conflict(self, mac: str, guid: str, others: str, now: float) -> None:
        fields: Fields = {"kind": "duplicate_guid", "guid": guid, "others": others}
        self._add(mac, Entry(now, "conflict", fields, _as_they_are))

    def _add(self, mac: str, entry: Entry) -> None:
        story = self._stories.get(mac)
        if story is None:
            story = self._stories[mac] = _Story(maxlen=EVENTS_PER_MACHINE)
        else:
            self._stories.move_to_end(mac)
        if len(story) == EVENTS_PER_MACHINE:
            self._event_count -= len(story[0])
            story.dropped += len(story[0])
        self._event_count += 1
        story.append(entry)
        self._touch(mac)
        while len(self._stories) > self._capacity or self._event_count > self._capacity * EVENTS_PER_CAPACITY:
            if len(self._stories) == 1:
                return
            forgotten, dropped = self._stories.popitem(last=False)
            self._event_count -= sum(map(len, dropped))
            if self._touched is not None:
                self._touched.discard(forgotten)


def _as_they_are(fields: Fields) -> Fields:
    return fields


def _keep(known: OrderedDict[str, _T], key: str, value: _T, room: int) -> None:
    """Put it last; the first ones go where there are too many."""
    known[key] = value
    known.move_to_end(key)
    while len(known) > room:
        known.popitem(last=False)
