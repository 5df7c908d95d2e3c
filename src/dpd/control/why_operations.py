# SPDX-License-Identifier: Apache-2.0
"""Why machines did or did not boot: their stories out of the journal, judged by `dpd.explain.causes`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dpd.errors import DpdError
from dpd.explain.causes import AttemptStory, explain
from dpd.explain.findings import BootCause, Surroundings
from dpd.settings import Settings
from dpd.site.identity import EMPTY_GUIDS
from dpd.telemetry.journal import BootJournal

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True)
class Why:
    """One machine's boots: why the last one ended as it did, and the steps of each. `mac` is "" for a GUID that nobody told;
    `others` are further machines that told the same GUID."""

    mac: str
    others: tuple[str, ...]
    cause: BootCause
    sentence: str
    next_step: str
    remarks: tuple[str, ...]
    attempts: tuple[AttemptStory, ...]


@dataclass(frozen=True, slots=True)
class LastBoot:
    """A machine's newest attempt in short. `computer` is "" where policy knows none; `last_step` is in words."""

    mac: str
    computer: str
    cause: BootCause
    sentence: str
    began_at: float
    last_at: float
    attempts: int
    last_step: str


class WhyOperations:
    """Answers out of one journal. `settings` gives those that hold now."""

    def __init__(
        self, journal: BootJournal, settings: Callable[[], Settings], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._journal = journal
        self._settings = settings
        self._clock = clock

    def why(self, machine: str) -> Why:
        """The explanation for a MAC or a GUID, also one that was never heard. Raises DpdError for what is neither."""
        macs = self._macs_of(machine)
        mac = macs[-1] if macs else ""
        told = explain(self._journal.story(mac) if mac else [], self.surroundings())
        return Why(mac, tuple(macs[:-1]), told.cause, told.sentence, told.next_step, told.remarks, told.attempts)

    def boots(self, limit: int) -> tuple[list[LastBoot], int]:
        """The newest attempt of each of the `limit` machines that were heard of last, the newest attempt first; and how many
        machines there are. Takes a while where there are many, so it is for a worker."""
        macs = self._journal.machines()
        around = self.surroundings()
        found = [self._last_boot(mac, around) for mac in macs[-limit:]]
        boots = [boot for boot in found if boot is not None]
        return sorted(boots, key=lambda boot: (-boot.began_at, boot.mac)), len(macs)

    def _last_boot(self, mac: str, around: Surroundings) -> LastBoot | None:
        """None where the machine has been forgotten meanwhile."""
        events = self._journal.story(mac)
        if not events:
            return None
        told = explain(events, around)
        newest = told.attempts[-1]
        decided = [event for event in events if event.event == "decision" and event.at >= newest.began_at]
        computer = str(decided[-1].fields.get("computer", "")) if decided else ""
        last_step = newest.steps[-1].text
        times = newest.began_at, newest.ended_at, len(told.attempts)
        return LastBoot(mac, computer, told.cause, told.sentence, *times, last_step)

    def _macs_of(self, machine: str) -> Sequence[str]:
        """The MACs that are meant, the one heard of last at the end."""
        text = machine.strip().strip("{}").lower()
        digits = re.sub(r"[:.-]", "", text)
        mac = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
        if _MAC.fullmatch(mac):
            return [mac]
        guid = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        if _GUID.fullmatch(guid):
            return self._journal.find(guid)
        raise DpdError(
            f"{machine[:40]!r}: expected a MAC such as 52:54:00:12:34:56 or a GUID such as 4c4c4544-0042-3510-8054-b4c04f564431"
        )

    def surroundings(self) -> Surroundings:
        """What is known beside the machines' own stories."""
        settings = self._settings().pxe
        shared = EMPTY_GUIDS | {each.lower() for each in settings.duplicate_ids}
        return Surroundings(self._clock(), settings.server_address, self._journal.relays(), shared)
