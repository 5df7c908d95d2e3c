# SPDX-License-Identifier: Apache-2.0
"""The story of each machine's boots, in memory and bounded: what it asked, what it was told, what it fetched.

DHCP knows machines by MAC, TFTP and HTTP by address; `bind` joins the two. What goes first when room is short is the
machine that was silent the longest, so a flood of invented MACs costs history and never memory.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

EVENTS_PER_MACHINE = 64  # some five boots
EVENTS_PER_CAPACITY = 8  # mean room for each machine when all are there: about 16 MB in all at the default capacity


@dataclass(frozen=True, slots=True)
class BootEvent:
    """One step. `at` is seconds since the epoch."""

    at: float
    event: str
    fields: dict[str, str | int] = field(default_factory=dict)


class BootJournal:
    """Stories of at most `capacity` machines; safe to use from any thread. MACs are lower-case aa:bb:cc:dd:ee:ff."""

    def __init__(self, capacity: int = 4096, *, clock: Callable[[], float] = time.time) -> None:
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._stories: OrderedDict[str, deque[BootEvent]] = OrderedDict()  # the machine heard of last stands last
        self._macs: OrderedDict[str, str] = OrderedDict()  # by address
        self._event_count = 0

    def note(self, mac: str, event: str, **fields: str | int) -> None:
        """Add a step to a machine's story."""
        with self._lock:
            self._note(mac, event, fields)

    def bind(self, address: str, mac: str) -> None:
        """From now on this address is that machine's."""
        with self._lock:
            self._macs[address] = mac
            self._macs.move_to_end(address)
            while len(self._macs) > self._capacity:
                self._macs.popitem(last=False)

    def note_address(self, address: str, event: str, **fields: str | int) -> None:
        """Add a step to the story of the machine that has this address; nothing happens where none is known."""
        with self._lock:
            mac = self._macs.get(address)
            if mac is not None:
                self._note(mac, event, fields)

    def story(self, mac: str) -> list[BootEvent]:
        """The steps of one machine, oldest first; empty where it is unknown."""
        with self._lock:
            return list(self._stories.get(mac, ()))

    def machines(self) -> list[str]:
        """Every machine with a story, the one heard of last at the end."""
        with self._lock:
            return list(self._stories)

    def _note(self, mac: str, event: str, fields: dict[str, str | int]) -> None:
        story = self._stories.setdefault(mac, deque(maxlen=EVENTS_PER_MACHINE))
        self._event_count += len(story) < EVENTS_PER_MACHINE
        story.append(BootEvent(self._clock(), event, fields))
        self._stories.move_to_end(mac)
        while len(self._stories) > self._capacity or self._event_count > self._capacity * EVENTS_PER_CAPACITY:
            if len(self._stories) == 1:
                return
            _, dropped = self._stories.popitem(last=False)
            self._event_count -= len(dropped)
